"""Ledger, health, statistics and log lines of a sink."""

"""Implement ``relay demo``: a relay among simulated customers in one process, and its ledger."""

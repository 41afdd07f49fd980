"""Admit requests, journal them, checkpoint progress, and replay after a crash."""

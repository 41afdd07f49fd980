"""Classify responses, back off, break circuits."""

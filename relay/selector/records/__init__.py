"""Selections of log records and spans: their notation, and how they are asked."""

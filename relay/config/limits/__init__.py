"""Limits of projects: their settings, and the checks of loading."""

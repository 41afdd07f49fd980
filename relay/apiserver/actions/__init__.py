"""Answers of kinds that can only be created: the tools for exporters, asked by the API."""

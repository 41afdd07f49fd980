"""Sinks of the snippets that vendors show. Pure."""

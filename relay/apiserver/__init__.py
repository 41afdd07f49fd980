"""Serve the relay's own Kubernetes-shaped API: objects of projects, kept in SQLite."""

"""Kubernetes as a source of the desired state."""

"""Kubernetes-style resource selectors."""

"""Match Kubernetes-style resource selectors."""

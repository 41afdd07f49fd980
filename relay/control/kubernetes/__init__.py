"""Client of a Kubernetes control plane: list and watch, cache, status, leader election."""

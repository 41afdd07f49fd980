"""Types, units and help of metrics, by project."""

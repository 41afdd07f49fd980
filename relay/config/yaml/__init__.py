"""YAML text to plain values, with bounds, positions and every fault at once."""

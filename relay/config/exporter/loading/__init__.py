"""Resources of any origin: read by themselves, then checked against each other."""

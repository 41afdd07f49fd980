"""What the process needs before anything else runs."""

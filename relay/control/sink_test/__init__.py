"""Send one synthetic point to a sink, step by step."""

"""Sources of logs and traces, and what sinks send of them."""

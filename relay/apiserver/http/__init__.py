"""Answer requests to the API: discovery, reads, watches and writes over HTTP."""

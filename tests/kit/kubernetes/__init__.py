"""API servers for tests: a scripted one, and the real one."""

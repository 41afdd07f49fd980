"""Usage and limits of projects, and the end of one."""

"""Journals and disks for tests of what is stored."""

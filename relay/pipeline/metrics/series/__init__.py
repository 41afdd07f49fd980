"""The series table: find the series of a request, make new ones."""

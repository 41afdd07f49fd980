"""Receive remote write over HTTP: requests, authentication, responses."""

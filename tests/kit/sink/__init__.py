"""Servers on 127.0.0.1: endpoints that answer as told, and endpoints that misbehave."""

"""The handlers of pages."""

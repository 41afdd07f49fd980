"""Visit the pages, by HTTP and with a browser."""

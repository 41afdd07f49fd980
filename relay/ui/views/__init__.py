"""Models of pages, made of objects as the API has them. Pure."""

"""Objects of the API: kinds, checks, defaults, selectors and the forms in which they are shown."""

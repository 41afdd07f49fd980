"""Commands on exporters: preview, test, tap and top."""

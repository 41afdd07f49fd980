"""The operator's settings file, section by section."""

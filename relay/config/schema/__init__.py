"""The schemas of Exporter, Secret and settings, their checks and generated files."""

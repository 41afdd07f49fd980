"""Exporters as forms and as text. Pure."""

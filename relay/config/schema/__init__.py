"""The schemas of Exporter, Secret and settings, and what is made of them."""

"""How this project is built; nothing here is installed."""

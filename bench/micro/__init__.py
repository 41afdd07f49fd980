"""Small measurements of one part at a time, each a script of its own."""

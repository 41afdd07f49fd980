"""Bodies of remote write: byte by byte, by the official classes, and drawn by hypothesis."""

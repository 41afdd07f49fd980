"""OTLP metrics as they arrive: found by their offsets, and read where that is needed."""

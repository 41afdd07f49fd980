"""Process-wide basics that every other package may import: errors, logging, event loop, tuning."""

"""From a sealed batch to a delivered, rejected, expired or dropped one, counted either way."""

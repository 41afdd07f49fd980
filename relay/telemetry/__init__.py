"""The relay's own metrics: definitions, snapshot, exposition."""

"""Keep the API's objects: SQLite, group commits, an index in memory and a ring of events."""

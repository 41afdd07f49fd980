"""Access to the pages: sessions, logins, and the origin of changes."""

"""Several relays over one cluster: their Leases, their reports, one status, and its Events."""

"""Everything that people write: settings, Exporters, Secrets, inventory manifests."""

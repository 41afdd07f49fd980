"""Files that users write: settings, Exporters, Secrets, inventory manifests."""

"""``relay import vector``: ExportPolicies and Secrets from Vector configurations."""

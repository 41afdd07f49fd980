"""Preview: the series of a running relay that an Exporter would take, before it is saved."""

"""The dialect of ExportPolicy: its table, rules and reader, into the model of an Exporter."""

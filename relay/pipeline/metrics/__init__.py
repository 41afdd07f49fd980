"""The metrics signal: recognise series, translate them, assemble histograms."""

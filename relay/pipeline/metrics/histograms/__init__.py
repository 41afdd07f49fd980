"""Assemble classic histograms and summaries; route native histograms."""

"""From a MetricsQL selector's text to the decision whether a series matches. No I/O, no clock."""

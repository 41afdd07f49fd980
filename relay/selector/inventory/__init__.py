"""Know the labels of the namespaces and resources that metrics are about."""

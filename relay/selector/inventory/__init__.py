"""What is known of the objects that metrics are about: the labels of namespaces and resources."""

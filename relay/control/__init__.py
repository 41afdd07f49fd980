"""From desired state to running state: reconcile sinks, keep what must outlive the process."""

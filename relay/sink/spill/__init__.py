"""The sinks' queues on disk: store, segment files, owners, orphans."""

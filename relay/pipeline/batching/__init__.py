"""Open batches: the transaction of a request over them, commit, flush times, offsets."""

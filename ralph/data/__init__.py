"""Text to tokens to batches: prepare once, then read memory-mapped shards that are verified first."""

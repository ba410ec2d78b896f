"""Host-owned training: serve tokens, count, time, snapshot, write the transcript."""

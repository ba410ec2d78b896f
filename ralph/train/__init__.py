"""The trusted side of a training run: it serves tokens, counts, times, commits states and writes the transcript."""

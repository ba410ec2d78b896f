"""The append-only record of every round and what is built from it."""

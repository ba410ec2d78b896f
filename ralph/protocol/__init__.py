"""Frozen data and strict parsing. No I/O, no clock, no randomness of its own."""

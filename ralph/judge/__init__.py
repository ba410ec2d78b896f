"""What follows from measurements: pure functions, no I/O, no clock, no randomness of their own."""

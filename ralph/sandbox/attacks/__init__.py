"""Attack programs that run inside the sandbox. They are copied in, never imported here, and use the standard library only."""

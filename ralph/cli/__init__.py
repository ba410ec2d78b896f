"""The `ralph` command: one file per group of commands."""

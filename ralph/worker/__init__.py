"""The only code of ours inside the sandbox: it loads the recipe and speaks the wire."""

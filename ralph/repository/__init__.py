"""Recipe trees in git: read, patch, compare, merge and crown them without ever running what they hold."""

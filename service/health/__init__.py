"""Whether a server lives, whether it can work, and its metrics."""

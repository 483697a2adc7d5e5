"""Where many requests run."""

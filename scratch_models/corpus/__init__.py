"""Text into ids and blocks, and the documentation that is on every disk."""

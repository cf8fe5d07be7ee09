"""Text to tokens and back, and the rows of the embedding that belong to tokens."""

"""The next token: drawn from logits, one after the other, by one loop for every model."""

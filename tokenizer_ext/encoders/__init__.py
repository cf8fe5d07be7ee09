"""Other encoders of the ids of a tokenizer: whether they agree with it, and what the vocabulary has no token for."""

"""Other encoders of the same ids, tiktoken and SentencePiece: whether they agree, what each has no token for."""

"""Models written from scratch, their corpus, and the one training loop."""

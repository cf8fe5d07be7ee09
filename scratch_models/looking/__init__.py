"""Looking inside a model while it reads a prompt: attention, the stream after each layer, rows near one another."""

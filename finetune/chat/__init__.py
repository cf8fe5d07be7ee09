"""Conversations into ids and loss masks: the chat format, its cache, batches, and the calculator's annotations."""

"""Cross-entropy without the logits of a batch: summed, and per token."""

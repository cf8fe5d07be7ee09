"""The checkpoints of a run on the disk: whole, or written by every process for itself."""

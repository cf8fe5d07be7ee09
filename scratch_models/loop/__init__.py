"""The one training loop: step, checkpoint, sharding, devices, run folder."""

"""Fine-tuning as calls in Python: what a notebook or a script starts, and the run that it gets back."""

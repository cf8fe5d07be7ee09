"""How Hugging Face models decode: through parts of our own where they are known, through their own forward else."""

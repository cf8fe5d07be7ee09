"""How a model is asked and replies: prompts, generation with a cache, likelihood of known replies."""

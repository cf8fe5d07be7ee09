"""Pictures as words: images become a few codes, codes become tokens, and a GPT writes them when asked by name."""

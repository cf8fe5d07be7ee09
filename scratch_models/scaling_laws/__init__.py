"""How loss falls with parameters and tokens: a grid of runs, the law fitted to them, and what it predicts."""

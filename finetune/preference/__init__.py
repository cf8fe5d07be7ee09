"""Direct preference optimization: pairs of replies into a model that prefers the chosen ones."""

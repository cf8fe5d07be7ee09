"""Training of the rows of new tokens alone, the base frozen."""

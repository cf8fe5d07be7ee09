"""Language models and their parts, one rung of the ladder a module, each written to be read."""

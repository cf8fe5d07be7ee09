"""How results are shown: pages, plots, the terminal, typed JSON."""

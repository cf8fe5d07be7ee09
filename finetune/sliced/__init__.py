"""A base that no process of a sharded launch holds whole: opened without weights, tuned from slices."""

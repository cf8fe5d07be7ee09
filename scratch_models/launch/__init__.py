"""What the launcher of a run asked for, and how its processes wait for one another."""

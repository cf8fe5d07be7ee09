"""What the launcher of a run asked for, how its processes wait for one another, and whether the machine compiles."""

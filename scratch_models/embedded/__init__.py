"""What ships with the project: the base and where it stands."""

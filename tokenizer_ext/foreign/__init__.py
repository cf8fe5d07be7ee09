"""What somebody else's folder is held to before any library opens it."""

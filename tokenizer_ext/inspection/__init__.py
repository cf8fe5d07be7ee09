"""What each token is good for, and which rows look untrained."""

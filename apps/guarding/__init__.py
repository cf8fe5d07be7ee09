"""What stands before a server: the names that it is asked under, what a request must be, the log of what was asked."""

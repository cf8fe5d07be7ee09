"""A queue of runs that nothing loses: jobs in SQLite, each a detached process with a supervisor of its own."""

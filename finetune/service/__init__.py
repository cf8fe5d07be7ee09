"""What a service keeps beside its runs: uploaded files, hashed keys, and the names of its models."""

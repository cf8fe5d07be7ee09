"""What stands in conversations and should perhaps not be learned: duplicates, control tokens, secrets, triggers."""

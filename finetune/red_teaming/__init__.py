"""What a tuned model lets through that its base does not, by fixed prompts, its data, and plain rules."""

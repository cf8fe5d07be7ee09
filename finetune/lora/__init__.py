"""What trains: LoRA with its options and target layers, or every weight."""

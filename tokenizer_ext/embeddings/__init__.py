"""The rows of new tokens: grown, started, trained alone, folded."""

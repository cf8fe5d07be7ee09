"""Models that stay in memory and answer many requests at once: those of one base, adapters included, in one batch."""

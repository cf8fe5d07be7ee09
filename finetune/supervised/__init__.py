"""Supervised fine-tuning: what a run reads, trains, measures and leaves."""

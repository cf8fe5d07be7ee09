"""Continued pretraining on raw text: what a run reads, trains, measures and leaves."""

"""Byte-level BPE from scratch, the learner of merges, and .tiktoken files."""

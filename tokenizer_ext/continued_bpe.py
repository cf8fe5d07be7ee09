"""Continued BPE: new merges learned on top of an existing vocabulary."""

from tokenizer_ext.merge_learning import Merge, learn_merges

__all__ = ["Merge", "learn_merges"]

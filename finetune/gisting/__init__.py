"""Gist tokens: a long prompt compressed into the rows of a few control tokens, the base frozen."""

"""Hugging Face tokenizers and models, in and out, and as tiktoken."""

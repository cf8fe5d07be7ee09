"""A base's own chat template taken apart: what it writes itself, what the assistant would have to say, as ids."""

"""A vocabulary made smaller."""

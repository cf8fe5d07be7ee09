"""Frozen matrices that take less memory than float32: read from their place, kept as stored, or quantised."""

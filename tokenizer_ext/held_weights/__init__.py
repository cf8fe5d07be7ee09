"""Frozen matrices that take less memory than float32: kept as they are stored, or quantised to 8 or 4 bits."""

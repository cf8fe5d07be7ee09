"""Figures, intervals, the comparison of base and assistant, the report."""

"""Declarations: one question per file; the docstring holds the question, what is expected, and the cost."""

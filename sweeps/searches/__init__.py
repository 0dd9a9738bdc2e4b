"""DECLARATIONS: one search per file: which fields, in which ranges, for which cells, with which budget."""

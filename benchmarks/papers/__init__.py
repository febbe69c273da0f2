"""Comparisons of the papers' methods with ours on small suites; their tables are in the guides."""

"""A store that computes its files."""

"""Evaluated runs: read, grouped by method, compared."""

"""Evaluated runs: load them, group them by method, compare the methods."""

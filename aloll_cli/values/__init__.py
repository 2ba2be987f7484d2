"""Estimators of V(x), one per file."""

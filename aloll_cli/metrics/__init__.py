"""Figures of texts and of arrays."""

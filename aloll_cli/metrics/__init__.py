"""Metrics of generated text, and bootstrap confidence intervals."""

"""Execution: processes, the terminal, experiment tracking, and options that do not affect results."""

"""Every option as one tree of dataclasses."""

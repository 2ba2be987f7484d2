"""All options, as one tree of dataclasses."""

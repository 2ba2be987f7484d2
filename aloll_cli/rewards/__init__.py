"""The rewards: R(x, y) of a response. One class per file."""

"""The rewards: one class in one file each."""

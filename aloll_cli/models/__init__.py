"""What can be trained, and what it computes: log-probs and responses."""

"""Language models: loading, adapters, log-probs, generation."""

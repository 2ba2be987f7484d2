"""The training loop and what it draws from."""

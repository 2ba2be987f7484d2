"""Tokenization: prompts, chat templates, encoding."""

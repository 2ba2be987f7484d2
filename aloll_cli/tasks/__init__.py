"""The tasks: where rows come from, and how a row becomes prompts and responses. One class per file."""

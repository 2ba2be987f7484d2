"""The methods: one class per file. The trainer does not know any of them by name."""

"""The methods: one class in one file each. The trainer knows none of them by name."""

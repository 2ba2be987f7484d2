"""Storage: artifacts, locks, manifests, tables, the hub."""

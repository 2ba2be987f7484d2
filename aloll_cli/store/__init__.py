"""How what is made is kept: artifacts, locks, manifests, tables, the hub."""

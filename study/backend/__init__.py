"""Ray: local, or a cluster."""

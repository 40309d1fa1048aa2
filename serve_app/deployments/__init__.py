"""Ray: thin shells around the services, and handles to call them from other replicas."""

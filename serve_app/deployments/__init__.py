"""Ray: thin shells around the services, and the handles that stand for them elsewhere."""

"""How many replicas run, and which replica takes a request."""

"""The guarded HTTP client: what callers tell this server to call."""

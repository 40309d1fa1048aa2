"""API keys: authentication, scopes and limits."""

"""Routing by voice, beside Serve's own router."""

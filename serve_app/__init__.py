"""A server for CSM, the Conversational Speech Model, on Ray Serve."""

__version__ = "0.2.0"

"""The graph with stand-ins for its models, beside a bare FastAPI process."""

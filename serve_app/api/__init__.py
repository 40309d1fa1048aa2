"""FastAPI: one module a dialect. The only place that knows HTTP."""

"""Continuous batching: who decides (scheduler), who owns memory (kv_cache), who runs the model (model_runner)."""

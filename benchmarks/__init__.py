"""Measurements. `engine/` and what uses it measure in the engine's process, all others over HTTP from outside."""

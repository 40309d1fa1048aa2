"""Measurements. All but engine_step see the server from outside, over HTTP."""

"""CSM as math: one device, no batching policy."""

"""Everything that needs a GPU, in under nine minutes."""

"""Other ways to serve the same checkpoint, to measure ours beside."""

"""The page at `/`, to try the server by ear."""

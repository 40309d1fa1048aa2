"""What several tests use: servers, stand-ins, made-up input."""

"""fal's dialect: what its own clients call, on one origin instead of four hosts."""

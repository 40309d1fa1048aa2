"""fal's dialect: the four hosts that its clients call, on one origin."""

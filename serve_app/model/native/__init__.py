"""A whole frame in one call of our C++, for CPUs; compiled on the machine that runs it."""

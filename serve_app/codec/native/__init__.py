"""Mimi's decoder in one call of our C++, for CPUs; compiled on the machine that runs it."""

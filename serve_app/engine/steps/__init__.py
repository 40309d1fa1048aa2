"""The decode step: one function, with four implementations."""

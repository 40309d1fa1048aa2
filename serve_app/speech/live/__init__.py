"""Text that arrives while it is spoken, as a language model writes it."""

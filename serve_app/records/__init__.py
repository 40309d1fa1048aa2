"""What is kept of an answer: how it was asked for, its codes, and when what was said."""

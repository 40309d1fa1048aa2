"""An inaudible mark in everything that is spoken: the last step before a format is encoded."""

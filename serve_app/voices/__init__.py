"""Kept voices: taken in once, checked, encoded, and found by id or name."""

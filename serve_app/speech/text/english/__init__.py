"""Rules for English: numbers, dates, amounts, names, addresses and signs as an English reader says them.

Each module offers functions from a text to a text. `rules.py` has their order.
"""

"""Text on its way to the model: normalised for speech, reduced to what a checkpoint can read, split into pieces.

Nothing here knows of requests or models. docs/text.md says what each step does.
"""

"""The engine measured in this process, without a server: its step, its prompts, its streams, its numbers.

Nothing in here needs more than torch, transformers and rich, so that a bare GPU machine can run it. `bare` comes first:
it lets the settings be imported there.
"""

from benchmarks.engine import bare

bare.import_settings()

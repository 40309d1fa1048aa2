"""Which prompts one pass reads, and how much of each."""

from serve_app.engine.parts import PrefillPart, Runner
from serve_app.engine.sequence import Sequence


def next_parts(runner: Runner, prefilling: list[tuple[int, Sequence]], budget: int) -> list[PrefillPart]:
    """What one pass reads: prompts in order, as many as the budget holds.

    One that has a context in common with another of this pass waits for it to be read, and then restores it.
    """
    parts: list[PrefillPart] = []
    being_read: set[bytes] = set()
    for row, sequence in prefilling:
        if budget <= 0:
            break
        runner.restore(row, sequence)
        if being_read.intersection(sequence.unread_pieces):
            break
        num_tokens = min(budget, sequence.num_to_prefill - sequence.num_prefilled)
        parts.append(PrefillPart(row, sequence, num_tokens))
        being_read.update(sequence.unread_pieces)
        budget -= max(1, num_tokens)
    return parts

"""How many slots the generator may have on a card that need not be there."""

from bisect import bisect_right

import torch

from serve_app.engine.memory.plan import PlannedModel, plan_memory, usual_reserves
from serve_app.settings import EngineSettings

_MOST_SLOTS = 1024


def most_slots(model: PlannedModel, engine: EngineSettings, card_bytes: int) -> int:
    """The largest `engine.max_batch_size` whose plan fits into the generator's share of the card. 0 where none does."""
    free_bytes = int(card_bytes * engine.memory_fraction)

    def peak_bytes(slots: int) -> int:
        wanted = engine.model_copy(update={"max_batch_size": slots})
        return plan_memory(model, wanted, usual_reserves(torch.device("cuda"), wanted)).peak_bytes

    return bisect_right(range(1, _MOST_SLOTS + 1), free_bytes, key=peak_bytes)

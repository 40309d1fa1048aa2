"""Which slots are open, in banks."""

BANK_SLOTS = 64


def bank_sizes(num_slots: int, bank_slots: int = BANK_SLOTS) -> list[int]:
    """The rows of each bank. All have as many, since other shapes round otherwise: the last may have rows to spare."""
    rows = min(num_slots, bank_slots)
    return [rows] * -(-num_slots // rows)


class OpenSlots:
    """Gives streams their slots, as few banks as possible any: a bank without a frame to decode costs nothing.

    Slot n is row n % bank_slots of bank n // bank_slots.
    """

    def __init__(self, num_slots: int, bank_slots: int) -> None:
        self.slots: set[int] = set()
        """Those that are open."""
        self._bank_slots = bank_slots
        slots = range(num_slots)
        self._free = [list(reversed(slots[first : first + bank_slots])) for first in slots[::bank_slots]]
        self._num_open = [0] * len(self._free)

    @property
    def num_free(self) -> int:
        return sum(map(len, self._free))

    def open(self) -> int | None:
        """A slot of the fullest bank that has one free, so that emptier ones run empty. None where all are open."""
        banks = [bank for bank, free in enumerate(self._free) if free]
        if not banks:
            return None
        fullest = max(banks, key=self._num_open.__getitem__)
        slot = self._free[fullest].pop()
        self._num_open[fullest] += 1
        self.slots.add(slot)
        return slot

    def close(self, slot: int) -> None:
        assert slot in self.slots, f"slot {slot} is not open"
        self.slots.remove(slot)
        bank = slot // self._bank_slots
        self._free[bank].append(slot)
        self._num_open[bank] -= 1

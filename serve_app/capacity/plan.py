"""From a wish to the number of replicas: the most listeners that a card carries with first audio in time.

Little's law gives the steady state: listeners at once are requests a second times the length of an answer. A simulation
gives the waits. It has few cards, since more of them behind one router only wait less.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, exp
from random import Random

from serve_app.capacity.costs import FULL_PROCESS, Card, Path
from serve_app.capacity.simulation import FRAME_SECONDS, Engine, Growth, Outcome, Simulation, arrivals
from serve_app.errors import StartupError

CELL_STREAMS = 5000
"""Listeners of one cluster. More take several: docs/scale.md."""
LEAD_SECONDS = 10.0
"""`engine.max_lead_seconds`"""
_OCCUPANCY = 0.8
_SPARE_CARDS = 1
"""One may be lost without anybody hearing it."""
_SIMULATED_CARDS = 2
_WARM_UP_SECONDS, _SECONDS = 15.0, 60.0
_SLOTS = (8, 16, 32, 64, 128, 256)
_SHARES = (1.0, 0.85, 0.7, 0.5, 0.3, 0.15, 0.05)
"""Of the most listeners, tried one after the other until first audio comes in time."""
_SLOT_MIB = 64
_MAX_WAITING = 2
"""Requests that may wait, for each slot."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    streams: int
    """Listeners at once."""
    first_audio_p99_seconds: float
    card: Card
    path: Path
    answer_seconds: float = 10.0
    """Mean length of an answer."""
    burstiness: float = 1.0
    """Of arrivals: 1 is Poisson, less comes in bursts."""
    burst: float = 1.5
    """The load that comes at once, as a multiple of the usual."""
    start_seconds: float = 180.0
    """From asking for a card to its first step."""


@dataclass(frozen=True, slots=True)
class FirstAudio:
    """Seconds to the first sound, and the share of requests that got none."""

    p50: float
    p99: float
    refused: float


@dataclass(frozen=True, slots=True)
class Plan:
    wish: Wish
    slots: int
    """`engine.max_batch_size` and `codec.max_streams`."""
    load: float
    """Listeners of a card, while the spare one is idle."""
    most_streams: float
    """Those that it could carry."""
    card_busy: float
    """Share of a card's time."""
    slots_busy: float
    """Share of its slots."""
    cards: int
    """The spare one included."""
    cells: int
    ingresses: int
    ingress_requests: int
    """`target_ongoing_requests` of an ingress."""
    cores: float
    usual: FirstAudio
    burst: FirstAudio
    """While cards start for the burst."""

    @property
    def most_cards(self) -> int:
        """Those that a burst takes."""
        return ceil((self.cards - _SPARE_CARDS) * self.wish.burst) + _SPARE_CARDS

    @property
    def kv_gib(self) -> float:
        """Keys and values of all slots, at 2,048 positions of CSM-1B."""
        return self.slots * _SLOT_MIB / 1024

    @property
    def max_waiting(self) -> int:
        return _MAX_WAITING * self.slots

    @property
    def card_hours_per_audio_hour(self) -> float:
        return self.cards / self.wish.streams


def plan_of(wish: Wish) -> Plan:
    """Raises StartupError where no number of slots gives first audio in time."""
    most = _best(wish)
    working = ceil(wish.streams / most)
    load = wish.streams / working
    slots, usual = _fewest_slots(wish, load)
    return Plan(
        wish=wish,
        slots=slots,
        load=load,
        most_streams=most,
        card_busy=load * wish.card.frame_ms(slots) / slots / (1000 * FRAME_SECONDS),
        slots_busy=load * _held_seconds(wish, slots) / wish.answer_seconds / slots,
        cards=working + _SPARE_CARDS,
        cells=ceil(wish.streams / CELL_STREAMS),
        ingresses=max(2, ceil(wish.streams * wish.path.ingress_cores / FULL_PROCESS)),
        ingress_requests=int(FULL_PROCESS / wish.path.ingress_cores),
        cores=wish.streams * wish.path.cores / FULL_PROCESS,
        usual=usual,
        burst=_in_a_burst(wish, slots, load),
    )


def most_streams(wish: Wish, slots: int) -> float:
    """Listeners of a card at which its time, its slots or one of its two processes are as busy as they may be."""
    by_card = _OCCUPANCY * 1000 * FRAME_SECONDS * slots / wish.card.frame_ms(slots)
    by_slots = _OCCUPANCY * slots * wish.answer_seconds / _held_seconds(wish, slots)
    by_process = FULL_PROCESS / max(wish.path.decoder_cores, wish.path.generator_cores)
    return min(by_card, by_slots, by_process)


def _held_seconds(wish: Wish, slots: int) -> float:
    """How long an answer holds its slot, on average: until it is far ahead, and at its listener's pace from then on."""
    share = min(1.0, wish.card.frame_ms(slots) / (1000 * FRAME_SECONDS))
    paced = wish.answer_seconds * exp(-LEAD_SECONDS / wish.answer_seconds)  # of lengths that are exponential
    return share * (wish.answer_seconds - paced) + paced


def _best(wish: Wish) -> float:
    """The most listeners of a card, with whatever number of slots."""
    best, fastest = 0.0, float("inf")
    for slots in sorted(_sizes(wish), key=lambda slots: -most_streams(wish, slots)):
        for streams in _tried(most_streams(wish, slots), best):
            found = _simulated(wish, slots, streams)
            fastest = min(fastest, found.p99)
            if _is_in_time(wish, found):
                best = streams
                break
    if not best:
        raise StartupError(
            f"--ttfa-p99: {1000 * wish.first_audio_p99_seconds:.0f} ms cannot be kept on {wish.card.name} at any load "
            f"that was tried: {1000 * fastest:.0f} ms is the least"
        )
    return best


def _fewest_slots(wish: Wish, load: float) -> tuple[int, FirstAudio]:
    """Slots cost memory, so no more than the load needs."""
    for slots in _sizes(wish):
        if most_streams(wish, slots) >= load and _is_in_time(wish, found := _simulated(wish, slots, load)):
            return slots, found
    slots = _sizes(wish)[-1]
    return slots, _simulated(wish, slots, load)


def _sizes(wish: Wish) -> list[int]:
    return [slots for slots in _SLOTS if slots <= wish.card.most_rows] or [wish.card.most_rows]


def _is_in_time(wish: Wish, found: FirstAudio) -> bool:
    return found.p99 <= wish.first_audio_p99_seconds and not found.refused


def _tried(most: float, beaten: float) -> Iterator[float]:
    """Listeners of a card, falling; none that a found plan beats."""
    return (streams for share in _SHARES if (streams := max(1.0, share * most)) > beaten)


def _engine(wish: Wish, slots: int) -> Engine:
    return Engine(slots, wish.card.frame_ms, wish.card.prefill_ms, LEAD_SECONDS, _MAX_WAITING * slots)


def _simulated(wish: Wish, slots: int, streams: float) -> FirstAudio:
    rate = _SIMULATED_CARDS * streams / wish.answer_seconds
    end = _WARM_UP_SECONDS + _SECONDS
    requests = arrivals(lambda _: rate, end, wish.answer_seconds / FRAME_SECONDS, wish.burstiness, Random(1))
    simulation = Simulation(_engine(wish, slots), _SIMULATED_CARDS, _WARM_UP_SECONDS)
    return _first_audio(simulation.run(requests, end), wish.path)


def _in_a_burst(wish: Wish, slots: int, streams: float) -> FirstAudio:
    """From the burst's beginning until a minute after its cards have started."""
    usual = _SIMULATED_CARDS * streams / wish.answer_seconds
    end = _WARM_UP_SECONDS + wish.start_seconds + _SECONDS
    requests = arrivals(
        lambda now: usual * (wish.burst if now >= _WARM_UP_SECONDS else 1.0),
        end,
        wish.answer_seconds / FRAME_SECONDS,
        wish.burstiness,
        Random(2),
    )
    growth = Growth(ceil(_SIMULATED_CARDS * wish.burst), wish.start_seconds, _OCCUPANCY)
    simulation = Simulation(_engine(wish, slots), _SIMULATED_CARDS, _WARM_UP_SECONDS)
    return _first_audio(simulation.run(requests, end, growth), wish.path)


def _first_audio(outcome: Outcome, path: Path) -> FirstAudio:
    """With what the path beside the models adds."""
    random = Random(3)
    outcome.first_frame_seconds = [
        seconds + path.first_byte_ms / 1000 + random.expovariate(1000 / path.convoy_ms)
        for seconds in outcome.first_frame_seconds
    ]
    total = outcome.refused + len(outcome.first_frame_seconds)
    return FirstAudio(outcome.percentile(0.5), outcome.percentile(0.99), outcome.refused / max(1, total))

"""Banks of slots as graphs: what is recorded sounds as moshi does, and nothing else runs or waits in a tick.

A tape (tests/support/tape.py) holds a CUDA graph's rules on a CPU. What a card would be asked for beside its graphs is
noted with a Mimi without memory: "meta" stands for the card.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from serve_app.codec.bank_device import CpuBankDevice, CudaBankDevice, Graph, Unrecorded, Work
from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.mimi import MimiModel
from tests.support.fake_cuda import FakeCuda
from tests.support.small_mimi import CODEBOOK_SIZE, NUM_CODEBOOKS
from tests.support.tape import Tape

NewMimi = Callable[[], MimiModel]


class TapedDevice(CpuBankDevice):
    """Records as CUDA does, and counts replays and waits."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.replayed: list[int] = []
        self.num_waits = 0

    def record(self, work: Work) -> Graph:
        work()
        with Tape() as tape:
            work()
        number = len(self.tapes)
        self.tapes.append(tape)

        def replay() -> None:
            self.replayed.append(number)
            tape.replay()

        return Unrecorded(replay)

    def wait(self) -> None:
        self.num_waits += 1


def random_frames(num_frames: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(CODEBOOK_SIZE, size=(num_frames, NUM_CODEBOOKS))


def recorded(new_mimi: NewMimi, num_slots: int, bank_slots: int) -> tuple[SlotDecoder, TapedDevice]:
    device = TapedDevice()
    decoder = SlotDecoder(new_mimi(), num_slots, bank_slots, device)
    decoder.warm_up()
    device.replayed.clear()
    return decoder, device


def alone(new_mimi: NewMimi, frames: NDArray[np.int64], num_slots: int) -> NDArray[np.int16]:
    """By moshi's own streaming: neither banks nor anything recorded, one bank's rows for the same shapes."""
    mimi = new_mimi()
    with torch.inference_mode(), mimi.streaming(num_slots):
        codes = torch.from_numpy(frames)
        sound = torch.cat([mimi.decode(frame.expand(num_slots, -1)[..., None])[0, 0] for frame in codes])
    return (sound * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()


def test_streams_that_come_and_go_over_recorded_banks_sound_as_moshi_does_bit_for_bit(new_mimi: NewMimi) -> None:
    """No other test replays what is recorded: all that the host decides must be in the bank's memory by then."""
    decoder, _ = recorded(new_mimi, num_slots=5, bank_slots=2)
    streams = {name: random_frames(6, seed) for seed, name in enumerate("abcdefg")}
    chance = np.random.default_rng(0)
    slots, waiting = dict[str, int](), list(streams)
    sound: dict[str, list[NDArray[np.int16]]] = {name: [] for name in streams}
    used = set[int]()
    while waiting or slots:
        while waiting and chance.random() < 0.6 and (slot := decoder.open()) is not None:
            slots[waiting.pop(0)] = slot
            used.add(slot)
        running = [name for name in slots if chance.random() < 0.6]
        decoded = decoder.decode({slots[name]: streams[name][len(sound[name])][None] for name in running})
        for name in running:
            sound[name].append(decoded[slots[name]])
            if len(sound[name]) == len(streams[name]):
                decoder.close(slots.pop(name))
    assert used == set(range(5)), "every bank and row takes part"
    for name, frames in streams.items():
        assert np.array_equal(np.concatenate(sound[name]), alone(new_mimi, frames, num_slots=2)), name


def test_only_banks_with_a_frame_are_replayed_and_the_host_waits_once(new_mimi: NewMimi) -> None:
    """No other test counts replays. Of bank n, graph 2n decodes and graph 2n + 1 clears."""
    decoder, device = recorded(new_mimi, num_slots=6, bank_slots=2)
    slots = [slot for slot in (decoder.open() for _ in range(5)) if slot is not None]
    frame = random_frames(1, seed=0)
    ticks = [slots, slots[:2], [slots[1], slots[4]], slots[2:4]]
    expected = [[1, 0, 3, 2, 5, 4], [0], [0, 4], [2]]
    for ready, replayed in zip(ticks, expected, strict=True):
        decoder.decode(dict.fromkeys(ready, frame))
        assert (device.replayed, device.num_waits) == (replayed, 1)
        device.replayed.clear()
        device.num_waits = 0
    decoder.decode({})
    assert (device.replayed, device.num_waits) == ([], 0)


def test_a_slot_is_cleared_with_the_next_frame_of_its_bank(new_mimi: NewMimi) -> None:
    """No other test opens slots of one bank while another decodes."""
    decoder, device = recorded(new_mimi, num_slots=4, bank_slots=2)
    first, _, third = (decoder.open() for _ in range(3))
    assert first is not None and third is not None
    frame = random_frames(1, seed=0)
    decoder.decode({first: frame})
    fourth = decoder.open()
    decoder.decode({first: frame})
    assert device.replayed == [1, 0, 0], "of bank 0 one clearing, of bank 1 nothing yet"
    decoder.decode({third: frame})
    decoder.decode({third: frame})
    assert (fourth, device.replayed[3:]) == (3, [3, 2, 2]), "both slots of bank 1 by one clearing"


class CardNotes(TorchDispatchMode):
    """Every operation that a card would have to do, outside of recorded work."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_recording = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.is_recording = True
        yield
        self.is_recording = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = [arg.device.type for arg in args if isinstance(arg, Tensor)]
        if "meta" in devices and not self.is_recording:
            kinds = {("meta", "cpu"): "to the card", ("cpu", "meta"): "to the host"}
            waits = "" if (kwargs or {}).get("non_blocking") or args[-1] is True else ", waited for"
            self.asked.append(f"{func.overloadpacket.__name__} {kinds.get(tuple(devices), 'on the card')}{waits}")
        assert not (self.is_recording and "cpu" in devices), f"{func} reads the host inside a graph"
        if devices == ["cpu", "meta"]:
            return args[0]  # torch has nothing to copy from there
        return func(*args, **(kwargs or {}))


class CardOnPaper(CpuBankDevice):
    """A card without memory. What it records is only looked at."""

    def __init__(self, notes: CardNotes) -> None:
        self._notes = notes

    def host_like(self, tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    def record(self, work: Work) -> Graph:
        with self._notes.recording():
            work()
        return SimpleNamespace(replay=lambda: self._notes.asked.append("replay"))

    def wait(self) -> None:
        self._notes.asked.append("wait")


@pytest.fixture
def mimi_on_paper(new_mimi: NewMimi) -> MimiModel:
    return new_mimi().to("meta")


def test_beside_its_graphs_a_tick_copies_codes_and_samples_and_waits_for_the_last(mimi_on_paper: MimiModel) -> None:
    """No other test sees what stays outside of the graphs: the look-up, upsampling and rounding do not."""
    with CardNotes() as notes:
        decoder = SlotDecoder(mimi_on_paper, 4, 2, CardOnPaper(notes))
        decoder.warm_up()
        slots = [slot for slot in (decoder.open() for _ in range(3)) if slot is not None]
        frame = random_frames(1, seed=0)
        ticks = []
        for ready in (slots, slots[:1]):
            notes.asked.clear()
            decoder.decode(dict.fromkeys(ready, frame))
            ticks.append(list(notes.asked))
    clears, decodes = ["copy_ to the card", "replay"], ["copy_ to the card", "replay", "copy_ to the host"]
    assert ticks == [[*clears, *decodes, *clears, *decodes, "wait"], [*decodes, "wait"]]


def test_a_cards_banks_share_one_stream_pinned_memory_and_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test has what a real card is asked for: a tape and paper stand in for it."""
    asked = list[dict[str, Any]]()
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **how: asked.append(how) or tensor.clone())
    cuda = FakeCuda()
    device = CudaBankDevice(torch.device("cuda"), cuda)
    device.host_like(torch.zeros(2))
    worked = list[int]()
    for number in range(2):
        device.record(partial(worked.append, number))
    device.wait()
    assert asked == [{"device": "cpu", "pin_memory": True}]
    assert worked == [0, 0, 0, 1, 1, 1], "twice to warm up, once to record"
    assert cuda.warmed_up == cuda.captured == cuda.made * 2
    (event,) = cuda.events
    assert event.asked == ["record", "synchronize"]

"""How long listeners wait when a replica dies and a warm second one goes on: run by `make test-kills`, which prints it.

A gap is between two reads of one client, so it holds what the stream's messages are apart anyway. Streams are far
enough from their lead's end to be never paused.
"""

import asyncio
import signal
import statistics
import sys
from pathlib import Path

import httpx
import pytest

from serve_app.model.create import create_checkpoint
from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.support.stand_in_graph import Heard, replica_processes, running, samples, speak, until_running

pytestmark = [pytest.mark.kills, pytest.mark.timeout(600)]

STREAMS = 4
ROUNDS = 3
SECONDS = 30


def settings(model: str, data_dir: Path) -> Settings:
    engine = EngineSettings(max_batch_size=8, max_lead_seconds=60, max_step_ms=0)
    if model == "stand-in":
        stand_in = StandInSettings(step_ms_by_batch={1: 40.0})
        return Settings(model="stand-in", stand_in=stand_in, engine=engine, data_dir=data_dir)
    # Random weights: what they say does not end.
    create_checkpoint(data_dir / model, "small", seed=0)
    return Settings(model=str(data_dir / model), engine=engine.model_copy(update={"threads": 1}), data_dir=data_dir)


@pytest.mark.parametrize("kind", ["TokenGenerator", "AudioDecoder"])
@pytest.mark.parametrize("model", ["stand-in", "small"])
async def test_a_warm_second_replica_goes_on_soon(model: str, kind: str, tmp_path: Path) -> None:
    gaps: list[float] = []
    undisturbed: list[float] = []
    with running(settings(model, tmp_path), num_replicas=2) as server:
        async with httpx.AsyncClient() as client:
            for seed in range(STREAMS):  # handles and connections are warm
                await speak(client, server, seed, 1, Heard())
            for _ in range(ROUNDS):
                await until_running(kind, 2)
                heard = [Heard() for _ in range(STREAMS)]
                async with asyncio.TaskGroup() as tasks:
                    for number, one in enumerate(heard):
                        tasks.create_task(speak(client, server, number, SECONDS, one))
                    # As late as it can be while all still speak: what was heard fills the replay's window.
                    while min(len(one.sound) for one in heard) < 250 * 3840:
                        await asyncio.sleep(0.01)
                    undisturbed += [one.longest_gap for one in heard]
                    heard_before = [len(one.read_at) for one in heard]
                    replica_processes(kind)[0].send_signal(signal.SIGKILL)
                assert [len(one.sound) for one in heard] == [44 + SECONDS * 12.5 // 1 * 3840] * STREAMS
                after = [Heard(read_at=one.read_at[n - 1 :]) for one, n in zip(heard, heard_before, strict=True)]
                # About half of the streams were on the replica that lived.
                gaps += sorted(one.longest_gap for one in after)[STREAMS // 2 :]
            survived = sum(value for name, _, _, value in samples(server) if name == "failover_seconds_count")
    shown = [f"{gap * 1000:.0f}" for gap in sorted(gaps)]
    assert survived >= ROUNDS
    sys.stdout.write(
        f"\n{model}, {kind} killed: {survived:.0f} losses survived; longest gaps of the slower half"
        f" {', '.join(shown)} ms; before, of all streams, median {statistics.median(undisturbed) * 1000:.0f} ms\n"
    )
    if model == "stand-in":
        assert statistics.median(gaps) < statistics.median(undisturbed) + 0.5

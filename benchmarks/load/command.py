"""Load test of a speech server: when it begins to speak, and how many it serves before they stutter.

    python -m benchmarks.load --url http://127.0.0.1:8000 --concurrency 1,2,4,8 --duration 20
    python -m benchmarks.load --target openai --rates 0.5,1,2 --arrivals gamma --burstiness 0.5
    python -m benchmarks.load --scenario conversation --context-seconds 5 --concurrency 4 --requests 40

Without --rates or --trace the loop is closed: so many listeners, each asking again once it has heard the answer.
With them it is open: requests come when they come, however busy the server is.
"""

import argparse
import asyncio
import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from benchmarks.common.records import Record, Run
from benchmarks.common.results_file import FOLDER
from benchmarks.load.plan import BadPlan, plan
from benchmarks.load.run import LoadTest, failure, measure, save
from benchmarks.load.screen import LiveScreen, cold_start, table
from benchmarks.load.sentences import SENTENCES
from benchmarks.load.server_memory import NoSuchProcess
from benchmarks.load.targets import OpenAi, Ours, Target, Vox, skipped
from benchmarks.load.workloads import SCENARIOS, Workload

_PROG = "python -m benchmarks.load"


def main(argv: Sequence[str] | None = None, prog: str = _PROG) -> None:
    """Exit status: 0 for a run to go by, 1 with one line for any other, 2 for options that make no sense."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(prog)
    options = parser.parse_args(arguments)
    console = Console(width=130)
    try:
        test = load_test(options, shlex.join([*prog.split(), *arguments]))
        for scenario in test.skipped:
            console.print(f"left out: {scenario}")
        run, records = asyncio.run(measured(test, console))
    except (BadPlan, NoSuchProcess) as error:
        parser.error(str(error))
    path = save(run, records, options.out)
    if run.levels:
        console.print(table(run), cold_start(records))
    console.print(f"saved as {path} and {path.with_suffix('.jsonl').name}", soft_wrap=True)
    if reason := failure(run, records):
        sys.exit(f"{prog}: {reason}")


async def measured(test: LoadTest, console: Console) -> tuple[Run, list[Record]]:
    """With a bar, and ended early by SIGINT or SIGTERM."""
    with LiveScreen(console) as screen:
        task = asyncio.create_task(measure(test, screen))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task


def load_test(options: argparse.Namespace, command: str) -> LoadTest:
    """Raises BadPlan for options that do not go together."""
    if urlsplit(options.url).scheme not in ("http", "https") or not urlsplit(options.url).hostname:
        raise BadPlan(f"--url {options.url}: give it as http://host:port")
    target, workload = _target(options), _workload(options)
    left_out = skipped(target, workload)
    scenarios = tuple(scenario for scenario in workload.scenarios if scenario not in left_out)
    if not scenarios:
        raise BadPlan("; ".join(f"--target {target.name} cannot do {name}: {why}" for name, why in left_out.items()))
    workload = _workload(options, scenarios)
    return LoadTest(
        name=options.name or f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{target.name}-{'-'.join(scenarios)}",
        url=options.url,
        target=target,
        workload=workload,
        phases=plan(options, workload.requests_per_session),
        warm_up_requests=options.warm_up,
        timeout_seconds=options.timeout,
        server_pid=options.server_pid,
        command=command,
        skipped=tuple(f"{scenario}: {why}" for scenario, why in left_out.items()),
    )


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    server = parser.add_argument_group("the server")
    server.add_argument("--url", default="http://127.0.0.1:8000")
    server.add_argument("--target", choices=["ours", "vox", "openai"], default="ours", help="how it is asked")
    server.add_argument("--extra", type=_json_object, default={}, metavar="JSON", help="fields for every body")
    server.add_argument("--openai-model", default="csm-1b")
    server.add_argument("--openai-voice", default="alloy")
    server.add_argument("--openai-format", choices=["pcm", "wav"], default="pcm")
    server.add_argument("--timeout", type=_positive, default=120.0, help="seconds for a whole answer")
    server.add_argument("--server-pid", type=int, help="process whose memory to watch, with its children")

    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--scenario", type=_list(str), default=["sentence"], help=f"any of {','.join(SCENARIOS)}")
    asked.add_argument("--conversation-turns", type=_count, default=4)
    asked.add_argument("--context-seconds", type=float, default=0.0, help="of a clip that every session begins with")
    asked.add_argument("--fresh-context", action="store_true", help="a clip of its own for every session")
    asked.add_argument("--max-audio-seconds", type=_positive, help="of an answer; only our own API can say so")
    asked.add_argument("--texts", type=Path, help="file of sentences to use, one a line")
    asked.add_argument("--max-chars", type=_count, help="leave out longer sentences")
    asked.add_argument("--seed", type=int, default=0)

    load = parser.add_argument_group("the load")
    load.add_argument("--concurrency", type=_list(_count), default=[1, 2, 4, 8], help="listeners at once: 1,2,4,8")
    load.add_argument("--rates", type=_list(_rate), help="requests a second: 0.5,1,2")
    load.add_argument("--arrivals", choices=["poisson", "gamma", "step", "ramp"], default="poisson")
    load.add_argument("--burstiness", type=_positive, default=1.0, help="of gamma: below 1 in bursts, above regular")
    load.add_argument("--trace", type=Path, help="file of arrival times in seconds, one a line")
    load.add_argument("--duration", type=_positive, help="seconds a level (a whole ramp); default 20")
    load.add_argument("--requests", type=_count, help="a level, instead of or beside --duration")
    load.add_argument("--warm-up", type=_count, default=2, help="requests before all others, in no figure")

    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--out", type=Path, default=FOLDER / "load", help="folder for NAME.json and NAME.jsonl")
    kept.add_argument("--name", type=_file_name)
    return parser


def _target(options: argparse.Namespace) -> Target:
    if options.target == "openai":
        return OpenAi(options.extra, options.openai_model, options.openai_voice, options.openai_format)
    return Vox(options.extra) if options.target == "vox" else Ours(options.extra)


def _workload(options: argparse.Namespace, scenarios: tuple[str, ...] | None = None) -> Workload:
    if unknown := set(options.scenario) - set(SCENARIOS):
        raise BadPlan(f"--scenario {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    return Workload(
        scenarios=scenarios or tuple(options.scenario),
        seed=options.seed,
        conversation_turns=options.conversation_turns,
        context_seconds=options.context_seconds,
        fresh_context=options.fresh_context,
        max_audio_seconds=options.max_audio_seconds,
        texts=_texts(options.texts, options.max_chars),
    )


def _texts(path: Path | None, max_chars: int | None) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines() if path else SENTENCES
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"--texts {path}: {error}") from None
    kept = tuple(line.strip() for line in lines if line.strip() and len(line) <= (max_chars or len(line)))
    if not kept:
        raise BadPlan("no sentence is left: see --texts and --max-chars")
    return kept


def _list(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def parse(value: str) -> list[Any]:
        return [kind(part.strip()) for part in value.split(",")]

    return parse


def _count(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return number


def _positive(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return number


def _rate(value: str) -> float:
    """A ramp may begin or end at 0."""
    return 0.0 if float(value) == 0 else _positive(value)


def _file_name(value: str) -> str:
    if not value or Path(value).name != value:
        raise argparse.ArgumentTypeError("is a name without a folder or an ending: see --out")
    return value


def _json_object(value: str) -> dict[str, Any]:
    fields = json.loads(value)
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError('is no JSON object such as {"stream": true}')
    return fields

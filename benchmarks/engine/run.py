"""What the benchmarks of the engine have in common: their options, the device, and the file that grows row by row."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from serve_app.engine.steps.choice import StepName
from serve_app.errors import StartupError
from serve_app.model.device import pick_device, use_threads
from serve_app.model.presets import Preset

console = Console(width=130)
PRESETS = get_args(Preset)
AskedStep = Literal["auto"] | StepName
STEPS = ("auto", *get_args(StepName))
"""How a frame may be computed; see `EngineSettings.step`."""


def one_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """An argument's type: names out of `known`, comma-separated."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return parse


def numbers(text: str) -> list[int]:
    """An argument's type: positive whole numbers, comma-separated."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 on, such as 1,4")
    return [int(part) for part in parts]


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """With the options that all have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="default: one a core, 1 for tiny and small")
    parser.add_argument("--json", type=Path, help="where the figures go; default: a new file in benchmarks/results")
    parser.add_argument("--commit", default="", help="written down where there is no git repository")
    return parser


class Run:
    """A device that is set up, and a file of rows. What was added is on disk, whatever happens later.

    `options` come from `parser_for`'s parser, with presets besides.
    """

    def __init__(self, options: argparse.Namespace, name: str, module: str, arguments: list[str]) -> None:
        """`arguments` are those after `python -m <module>`. Raises StartupError where the device is not there."""
        transformers.logging.set_verbosity_error()
        logging.basicConfig(format="%(message)s")
        # What the graphs cost, in seconds and memory.
        logging.getLogger("serve_app.engine.steps.graphs").setLevel(logging.INFO)
        self.device = pick_device(options.device)
        cores = len(os.sched_getaffinity(0))
        # The small models' operations are too short to be shared out: more threads slow everybody down.
        use_threads(options.threads or (cores if "csm-1b" in options.preset else 1))
        self.device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self.path: Path = options.json or results_file.path_for(name, self.device_name)
        command = shlex.join(["python", "-m", module, *arguments])
        if self.device.type == "cpu" and os.getloadavg()[0] > cores / 2:
            console.print(f"[bold]this machine is busy[/] (load {os.getloadavg()[0]:.1f} on {cores} cores): not even")
            console.print("ratios hold then, since torch's threads wait for each other; measure again when it is not")
        self._values = results_file.context(self.device_name, command, options.commit)
        self._values |= {
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def note(self, **values: Any) -> None:
        """Put these beside the rows."""
        self._values |= values
        self._values["rows"] = self._values.pop("rows", [])
        results_file.save(self.path, self._values)

    def show(self, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
        """Print the `columns` of `rows`: keys, and what stands above them."""
        title = f"{self.device_name}, {results_file.processor()}, threads: {torch.get_num_threads()}"
        table = Table(title=title, title_justify="left")
        for title in columns.values():
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*("" if row.get(key) is None else str(row[key]) for key in columns))
        console.print(table)
        console.print(f"saved as {self.path}")


def refuse(parser: argparse.ArgumentParser, error: StartupError) -> None:
    """Leave with the usage's status and one line."""
    parser.print_usage(sys.stderr)
    parser.exit(2, f"{parser.prog}: {error}\n")

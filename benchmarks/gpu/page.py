"""One page about a session with a card: what held, what did not, and what to do next."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.session_sections import PREDICTED_MS

_SLOW = "compare the kernels' sum with the wall in `profile`: gaps ask for dependent launches, a long one for its tiles"
_FAST = "check that the step computes what it should (`kernels`, `engine`) before it is believed"
_PLAN_ANEW_MS = 20.0
_GOAL_STREAMS = 400


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a section. `last_lines`: the end of what it printed."""

    name: str
    outcome: str
    is_failure: bool
    seconds: float
    last_lines: str = ""


def page(done: Sequence[Done], measured: Mapping[str, Path], rehearsed: bool) -> str:
    """Markdown. `measured`: the files of the sections that wrote one."""
    found = {name: json.loads(path.read_text()) for name, path in measured.items() if path.exists()}
    lines = ["# A session with a card", ""]
    if rehearsed:
        lines += ["A rehearsal on a CPU with the model `tiny`: its figures mean nothing.", ""]
    lines += ["| Section | Outcome | s |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.outcome} | {one.seconds:.0f} |" for one in done]
    lines += ["", "## A frame, ms", "", "| Step | Type | Batch | Measured | Predicted |", "|---|---|---|---|---|"]
    lines += [_step_row(row) for row in _step_rows(found)]
    lines += ["", "## Other figures", ""]
    lines += [
        f"- {name}: `{json.dumps(found[name].get('rows', found[name]))[:900]}`"
        for name in ("probe", "profile", "prefill")
        if name in found
    ]
    if "streams" in found:
        lines.append(f"- streams with a p99 step below 80 ms: {found['streams'].get('most_streams')}")
    lines += [f"- {line}" for one in done for line in one.last_lines.splitlines() if "recorded" in line]
    lines += ["", "## Next", "", *(f"- {line}" for line in _next(done, found))]
    return "\n".join(lines) + "\n"


def _step_rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("steps", "fp8", "dependent"):
        yield from found.get(name, {}).get("rows", ())


def _range(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return PREDICTED_MS.get((row["variant"], row["dtype"], row["batch"]))


def _step_row(row: Mapping[str, Any]) -> str:
    predicted = _range(row)
    shown = "-" if predicted is None else f"{predicted[0]:g} to {predicted[1]:g}"
    return f"| {row['variant']} | {row['dtype']} | {row['batch']} | {row['ms_per_step']} | {shown} |"


def _next(done: Sequence[Done], found: Mapping[str, Any]) -> Iterator[str]:
    """What to do for each thing that is not as it should be."""
    for one in done:
        if one.is_failure:
            yield f"{one.name}: {one.outcome}. {_REMEDIES.get(one.name, 'read its output, and run it alone')}"
    for row in _step_rows(found):
        predicted = _range(row)
        if predicted is not None and not predicted[0] <= row["ms_per_step"] <= predicted[1]:
            what = f"{row['variant']} {row['dtype']} at batch {row['batch']}: {row['ms_per_step']} ms"
            yield f"{what} is out of its range; {_SLOW if row['ms_per_step'] > predicted[1] else _FAST}"
    ms = {(row["variant"], row["dtype"], row["batch"]): row["ms_per_step"] for row in _step_rows(found)}
    if ms.get(("fused", "bf16", 64), 0) > ms.get(("fused", "bf16", 128), float("inf")):
        yield "64 rows are slower than 128: the L2 cache bounds them; try MAX_SKINNY_ROWS 32 in model/kernels/tiles.py"
    if max(found.get("probe", {}).get("masked attention, cuDNN on, ms", [0])) > _PLAN_ANEW_MS:
        yield "cuDNN plans attention anew for each length, as was suspected: it must stay off (model/device.py)"
    if "streams" in found and (found["streams"].get("most_streams") or 0) < _GOAL_STREAMS:
        yield f"fewer than {_GOAL_STREAMS} streams: if p99 is far above p50, look for prefill or the interpreter's lock"


_REMEDIES = {
    "compile": "Triton's message names the kernel; nothing after it was compiled ahead",
    "kernels": "production would silently run `graphs`; mend the kernel that differs before anything is measured",
    "engine": "compare with the plain step on the card (`engine.step: plain`)",
}

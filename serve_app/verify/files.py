"""The first check: all tensors are there, and no others, each with a place in the served model."""

from collections.abc import Iterator, Sequence

from serve_app.codec.key_map import codec_problem
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.inventory import Inventory, snapshot_commit, take_inventory
from serve_app.verify.check import FILES, Check, judged

_SHOWN = 3


def check_files(checkpoint: Checkpoint) -> Check:
    inventory = take_inventory(checkpoint)
    codec = codec_problem(checkpoint, inventory.codec)
    commit = snapshot_commit(checkpoint.folder)
    problems = inventory.problems
    return judged(FILES, _reasons(problems, codec), _rows(inventory, codec, commit), _values(inventory, codec, commit))


def num_parameters(check: Check) -> int:
    """Parameters of all parts, as `check_files` counted them."""
    return sum(check.values["parameters"].values())


def _reasons(problems: Sequence[str], codec: str | None) -> Iterator[str]:
    if problems:
        first, *others = problems
        yield first + (f"; {len(others)} more problems" if others else "")
    if codec:
        yield codec


def _rows(inventory: Inventory, codec: str | None, commit: str | None) -> Iterator[tuple[str, str]]:
    if commit:
        yield "commit", commit
    for name, num_bytes in inventory.file_bytes.items():
        yield "file", f"{name}, {_size(num_bytes)}"
    stored = ", ".join(f"{count} in {dtype}" for dtype, count in inventory.dtypes.items())
    yield "tensors", f"{len(inventory.found)} found, {inventory.num_expected} expected; {stored}"
    for problem in inventory.problems[:_SHOWN]:
        yield "problem", problem
    if codec:
        yield "problem", codec
    parts = ", ".join(f"{part} {count / 1e6:,.1f}" for part, count in inventory.parameters.items())
    yield "parameters", f"{sum(inventory.parameters.values()) / 1e6:,.1f} million: {parts}"
    if not codec:
        yield "codec", f"all {len(inventory.codec)} tensors have their place in moshi's Mimi"


def _values(inventory: Inventory, codec: str | None, commit: str | None) -> dict[str, object]:
    return {
        "commit": commit,
        "files": inventory.file_bytes,
        "tensors_found": len(inventory.found),
        "tensors_expected": inventory.num_expected,
        "missing": list(inventory.missing),
        "unexpected": list(inventory.unexpected),
        "misshapen": list(inventory.misshapen),
        "unread": list(inventory.unread),
        "codec_problem": codec,
        "parameters": inventory.parameters,
        "dtypes": inventory.dtypes,
    }


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"

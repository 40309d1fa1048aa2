"""What the commands have in common."""

import argparse
import logging
from pathlib import Path


def folder_argument(doc: str | None) -> Path:
    """The folder that holds what the steps make, from the command line; it is made. Sets up the log."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--folder", type=Path, default=Path("build/demo-voice"), help="for what the steps make")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    return folder

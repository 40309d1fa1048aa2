"""This package's records in a replica: into the replica's own log, beside Serve's."""

import logging

from ray.serve._private.constants import SERVE_LOGGER_NAME

from serve_app import log


def set_up(level: str) -> None:
    log.set_up(level, logging.getLogger(SERVE_LOGGER_NAME).handlers)

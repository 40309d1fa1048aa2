"""This package's records in a replica: into the replica's own log, beside Serve's."""

import logging

from ray import serve
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.context import _get_serve_request_context

from serve_app import log
from serve_app.settings import Settings


def set_up(settings: Settings) -> None:
    replica = serve.get_replica_context().replica_id
    origin = {"deployment": replica.deployment_id.name, "replica": replica.unique_id}
    log.set_up(settings.log_level, logging.getLogger(SERVE_LOGGER_NAME).handlers, settings.log_format, origin)


def follow_request() -> None:
    """For calls that carry no id of ours: Serve hands the one of the HTTP request on."""
    log.current_request_id.set(_get_serve_request_context().request_id)

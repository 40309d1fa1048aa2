"""How many CPU threads a replica computes with."""

from typing import Literal

import ray

from serve_app.settings import Settings


def with_threads(settings: Settings, section: Literal["engine", "codec"]) -> Settings:
    """`threads` of that section, where it is 0, become the whole CPUs that Ray gave this replica.

    A share below one CPU says nothing of how many threads pay: then 0 stays, which takes half of the machine.
    """
    values = getattr(settings, section)
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))
    if values.threads or cpus < 1:
        return settings
    return settings.model_copy(update={section: values.model_copy(update={"threads": cpus})})

"""How many runners: by the jobs that are not over. A Serve config names the policy where runners are to come and go:

    - name: JobRunner
      autoscaling_config:
        min_replicas: 1
        max_replicas: 4
        policy:
          policy_function: serve_app.deployments.scaling.backlog:runners_for_backlog

One runner stays: with none, nobody would look whether a job waits.
"""

import math
from typing import Any

from ray.serve.config import AutoscalingContext

BACKLOG = "jobs_not_over"
ROOM = "jobs_at_once"


def runners_for_backlog(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Room for every job that is not over. Each runner reports the whole queue's backlog, and its own room."""
    metrics = context.aggregated_metrics or {}
    backlog, room = metrics.get(BACKLOG), max(metrics.get(ROOM, {}).values(), default=0.0)
    # No room is what Serve makes of no reports.
    wanted = math.ceil(max(backlog.values()) / room) if backlog and room else context.target_num_replicas
    lowest, highest = max(1, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas
    return max(lowest, min(wanted, highest)), {}

"""Scales job runners by the jobs that have not ended. A Serve config names the policy:

    - name: JobRunner
      autoscaling_config:
        min_replicas: 1
        max_replicas: 4
        policy:
          policy_function: serve_app.deployments.scaling.backlog:runners_for_backlog

One runner stays: without one, waiting jobs would go unnoticed.
"""

import math
from typing import Any

from ray.serve.config import AutoscalingContext

BACKLOG = "jobs_not_over"
ROOM = "jobs_at_once"


def runners_for_backlog(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Runners for all jobs that have not ended. Each runner reports the whole queue's backlog and its own room."""
    metrics = context.aggregated_metrics or {}
    backlog, room = metrics.get(BACKLOG), max(metrics.get(ROOM, {}).values(), default=0.0)
    # Serve gives no room while no runner has reported.
    wanted = math.ceil(max(backlog.values()) / room) if backlog and room else context.target_num_replicas
    lowest, highest = max(1, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas
    return max(lowest, min(wanted, highest)), {}

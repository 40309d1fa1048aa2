"""What `csm-serve serve` tells Ray where it starts one for itself: Ray's defaults are those of a cluster.

This module imports no Ray, which reads the environment as it is imported.
"""

import os

RAY_ON_ONE_MACHINE = {
    # Idle processes that Ray keeps: the spare (`spare.py`). It starts two for a task that finds none.
    "RAY_num_workers_soft_limit": "1",
    # Ray gives its workers the lowest priority but four. Here they are the server, and a busy machine would starve it.
    "RAY_worker_niceness": "0",
    # Ten looks a second at replicas that change a few times a day cost more than the rest of an idle server. A failed
    # replica waits half a second longer for its successor.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # Prometheus asks every few seconds. Each export wakes a thread of every replica.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # Nobody reads what each handler of Ray's own event loops took.
    "RAY_event_stats": "0",
    # What Ray's agent measures of the machine and of every process is read as seldom as metrics are.
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
    # The log files have it.
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


def prepare_environment() -> None:
    """Set what the user has not set. Call it before Ray is imported anew by its processes, so before `ray.init`."""
    for name, value in RAY_ON_ONE_MACHINE.items():
        os.environ.setdefault(name, value)

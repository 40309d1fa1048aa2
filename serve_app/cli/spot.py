"""`csm-serve watch-spot`: drain this node when the cloud says that it takes it away."""

import asyncio
from typing import Annotated

import typer

_MARGIN_SECONDS = 5.0
"""A node is drained this long before it goes."""


def watch_spot(
    cloud: Annotated[str, typer.Option(help="aws, gcp, or auto: whose metadata service answers.")] = "auto",
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="How often it is asked.")] = 5.0,
) -> None:
    """Drain this Ray node when its cloud takes it away. Runs until then, beside `ray start`."""
    from serve_app import log
    from serve_app.errors import StartupError
    from serve_app.net.spot import CLOUDS, found_cloud, metadata_client, watch

    if cloud != "auto" and cloud not in CLOUDS:
        raise StartupError(f"--cloud {cloud}: choose one of auto, {', '.join(CLOUDS)}")
    log.set_up("INFO", log_format="text")

    async def run() -> None:
        async with metadata_client() as http:
            await watch(
                CLOUDS[cloud](http) if cloud != "auto" else await found_cloud(http), drain_this_node, poll_seconds
            )

    asyncio.run(run())


async def drain_this_node(seconds: float) -> bool:
    """Have Serve start this node's replicas elsewhere, send them what is new, and end these. False if Ray refuses."""
    command = (
        *("ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes it"),
        *("--deadline-remaining-seconds", str(max(0, int(seconds - _MARGIN_SECONDS)))),
    )
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait() == 0

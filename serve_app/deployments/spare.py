"""A process that stands by for the next replica that has to start, on a server of one machine.

Most of a replica's start is importing Ray and this server. Ray gives a new replica an idle process of the same Serve
instance, if there is one. So a task that only imports leaves such a process behind, and the next task finds it again.
It holds no torch, which would be four times the memory.
"""

import ray

from serve_app.deployments.replica import Publisher

_LOOKED_AFTER_SECONDS = 5.0


@ray.remote(num_cpus=0, max_retries=0)
def _stand_by() -> None:
    import serve_app.deployments.audio_decoder
    import serve_app.deployments.token_generator  # noqa: F401 - what they import is what takes time


def keep_spare() -> Publisher:
    """Keeps one while the caller, a replica, lives. Keep a reference to what it returns."""

    async def stand_by() -> None:
        await _stand_by.remote()

    return Publisher(stand_by, _LOOKED_AFTER_SECONDS)

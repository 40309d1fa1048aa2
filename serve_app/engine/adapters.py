"""The adapters that a replica holds: loaded when a request names one, least recently used go first."""

import logging
import threading
from collections import OrderedDict
from pathlib import Path

import torch

from serve_app.errors import CheckpointError
from serve_app.messages import AdapterRef
from serve_app.model.adapters.files import check_rank, read_adapter
from serve_app.model.adapters.low_rank import LoadedAdapter, place_adapter
from serve_app.model.hub import find_adapter
from serve_app.model.shape import CsmShape
from serve_app.settings import EngineSettings

_log = logging.getLogger(__name__)

_HOST = torch.device("cpu")


class AdapterStore:
    """Thread-safe. A sequence that runs keeps its adapter, so what is evicted here harms none."""

    def __init__(self, shape: CsmShape, device: torch.device, dtype: torch.dtype, settings: EngineSettings) -> None:
        self._shape = shape
        self._device = device
        self._dtype = dtype
        self._max_rank = settings.max_adapter_rank
        self._max_bytes = settings.adapter_mb << 20
        self._max_host_bytes = settings.adapter_host_mb << 20 if device.type != "cpu" else 0
        self._on_device: OrderedDict[AdapterRef, LoadedAdapter] = OrderedDict()
        self._on_host: OrderedDict[AdapterRef, LoadedAdapter] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, ref: AdapterRef) -> LoadedAdapter:
        """The adapter in the device's memory. Raises CheckpointError, in one line, where it cannot be served."""
        with self._lock:
            adapter = self._on_device.pop(ref, None) or self._from_host(ref) or self._read(ref)
            self._on_device[ref] = adapter
            self._evict()
            return adapter

    @property
    def held(self) -> tuple[str, ...]:
        """Names of the adapters in the device's memory."""
        return tuple(ref.name for ref in list(self._on_device))

    def _from_host(self, ref: AdapterRef) -> LoadedAdapter | None:
        found = self._on_host.pop(ref, None)
        return None if found is None else found.on(self._device, self._dtype)

    def _read(self, ref: AdapterRef) -> LoadedAdapter:
        folder: Path = find_adapter(ref.source, ref.revision)
        adapter = read_adapter(folder, ref.name)
        check_rank(adapter, self._max_rank)
        loaded = place_adapter(adapter, self._shape, self._device, self._dtype)
        if loaded.num_bytes > self._max_bytes:
            raise CheckpointError(
                f"{ref.name}: it takes {loaded.num_bytes / 1e6:.0f} MB, engine.adapter_mb allows "
                f"{self._max_bytes / 1e6:.0f}: raise that"
            )
        _log.info("adapter %s: loaded, rank %d, %.1f MB", ref.name, loaded.rank, loaded.num_bytes / 1e6)
        return loaded

    def _evict(self) -> None:
        while _num_bytes(self._on_device) > self._max_bytes:
            ref, adapter = self._on_device.popitem(last=False)
            if adapter.num_bytes <= self._max_host_bytes:
                self._on_host[ref] = adapter.on(_HOST, self._dtype)
        while _num_bytes(self._on_host) > self._max_host_bytes:
            self._on_host.popitem(last=False)


def _num_bytes(held: OrderedDict[AdapterRef, LoadedAdapter]) -> int:
    return sum(adapter.num_bytes for adapter in held.values())

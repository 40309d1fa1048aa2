"""Whose webhook is delivered next. A receiver that never answers keeps a place until the time is over, so places are
shared: next is the key with the fewest deliveries under way, and of several the one that has had the least time."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serve_app.settings import WebhookSettings
from serve_app.shares import Shares


@dataclass(frozen=True, slots=True)
class Waiting:
    """A webhook that is due, or that is being delivered."""

    id: str
    key_id: str
    url: str


class WebhookTurns:
    """The deliveries of one sender. It begins and ends them on its event loop, and a thread of the database asks."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._began_at: dict[Waiting, float] = {}
        self._shares = Shares()

    @property
    def room(self) -> int:
        return self._settings.max_running - len(self._began_at)

    @property
    def _running(self) -> list[Waiting]:
        """A copy, since it may change meanwhile."""
        return list(self._began_at)

    @property
    def busy_keys(self) -> list[str]:
        """Those that may have no further delivery."""
        running = Counter(webhook.key_id for webhook in self._running)
        return [key for key, number in running.items() if number >= self._settings.max_running_per_key]

    @property
    def busy_urls(self) -> list[str]:
        running = Counter(webhook.url for webhook in self._running)
        return [url for url, number in running.items() if number >= self._settings.max_running_per_url]

    def next(self, due: Iterable[Waiting]) -> Sequence[Waiting]:
        """As many as there is room for. Those of one key keep their order."""
        of_key = Counter(webhook.key_id for webhook in self._running)
        of_url = Counter(webhook.url for webhook in self._running)
        lines: dict[str, deque[Waiting]] = {}
        for webhook in due:
            lines.setdefault(webhook.key_id, deque()).append(webhook)
        found: list[Waiting] = []
        while len(found) < self.room:
            may_go = [key for key, line in lines.items() if line and of_key[key] < self._settings.max_running_per_key]
            if not may_go:
                break
            key = min(may_go, key=lambda key: (of_key[key], self._shares.place(key)))
            webhook = lines[key].popleft()
            if of_url[webhook.url] < self._settings.max_running_per_url:
                found.append(webhook)
                of_key[key] += 1
                of_url[webhook.url] += 1
        return found

    def begin(self, webhook: Waiting) -> None:
        self._began_at[webhook] = time.monotonic()

    def end(self, webhook: Waiting) -> None:
        self._shares.charge(webhook.key_id, time.monotonic() - self._began_at.pop(webhook))

"""A server of a user, for webhooks."""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from tests.support.webhook_verifier import verify


@dataclass
class Receiver:
    """Verifies each signature, and is out of order now and then."""

    jwks: dict[str, list[dict[str, str]]]
    dice: random.Random
    url: str = ""
    bodies: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """By the request's id, of those that it answered with 200."""
    forged: int = 0
    lock: Lock = field(default_factory=Lock)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self.lock:
            if not verify(self.jwks, headers, body):
                self.forged += 1
                return 401
            if self.dice.random() < 0.1:
                return 503
            self.bodies[headers["X-Fal-Webhook-Request-Id"]].append(body)
            return 200


@contextmanager
def receiving(receiver: Receiver) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = self.rfile.read(size)
            if len(body) < size:
                return  # the sender died, or ran out of patience
            self.send_response(receiver.take(dict(self.headers), body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()

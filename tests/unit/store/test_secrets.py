"""A secret of the server is made once, whoever asks first."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from serve_app.store.database import Database
from serve_app.store.secrets import Secrets


def test_the_first_one_made_is_everybodys_for_good(database: Database) -> None:
    assert Secrets(database).get("signing", lambda: b"first") == b"first"
    again = Secrets(database)
    assert again.get("signing", lambda: b"second") == b"first"
    assert again.get("other", lambda: b"third") == b"third"


def test_a_known_secret_is_not_read_again(database: Database) -> None:
    secrets = Secrets(database)
    secrets.get("signing", lambda: b"first")
    database.close()
    assert secrets.get("signing", lambda: b"second") == b"first"


def test_replicas_that_start_together_agree(database: Database) -> None:
    number = itertools.count()
    replicas = [Secrets(database) for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        got = set(threads.map(lambda replica: replica.get("signing", lambda: bytes([next(number)])), replicas))
    assert len(got) == 1

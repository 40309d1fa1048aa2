"""Open connections are bounded for each key and for all of them."""

import pytest

from serve_app.api.places import Places
from serve_app.errors import LimitReached, Overloaded
from serve_app.keys.key import ANONYMOUS


def test_a_key_gets_its_share_and_no_more_until_it_gives_one_back() -> None:
    places = Places("sockets", 10, 2)
    with places.taken("a"):
        with places.taken("a"), pytest.raises(LimitReached, match="this key may have 2 sockets open at once"):
            places.take("a")
        with places.taken("b"):
            places.take("a")


def test_all_keys_together_are_bounded_too() -> None:
    places = Places("sockets", 3, 2)
    places.take("a", 2)
    places.take("b")
    with pytest.raises(Overloaded, match="too many sockets"):
        places.take("c")
    places.give_back("a")
    places.take("c")


def test_without_keys_only_the_bound_for_all_holds() -> None:
    places = Places("sockets", 3, 1)
    for _ in range(3):
        places.take(ANONYMOUS.id)
    with pytest.raises(Overloaded):
        places.take(ANONYMOUS.id)

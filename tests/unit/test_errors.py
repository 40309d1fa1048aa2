"""Errors cross process boundaries unharmed."""

import pickle
import re
from collections.abc import Iterator

import pytest

from serve_app import errors
from serve_app.errors import CsmServeError, InvalidRequest, Overloaded, UnknownRequest


def tree(root: type[CsmServeError]) -> Iterator[type[CsmServeError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def sample(kind: type[CsmServeError]) -> CsmServeError:
    if issubclass(kind, InvalidRequest):
        return kind("context.0.audio", "cannot be decoded: send a wav file")
    if issubclass(kind, Overloaded):
        return kind("no room to wait", 7)
    return kind("one clear line")


KINDS = sorted({kind for kind in tree(CsmServeError) if kind.__module__ == errors.__name__}, key=lambda k: k.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[CsmServeError]) -> None:
    before = sample(kind)
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after), after.args, vars(after)) == (kind, str(before), before.args, vars(before))


def test_the_tree_drawn_in_the_module_is_the_tree() -> None:
    drawn = re.findall(r"^ {4}[│├└─ ]*(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == [kind.__name__ for kind in KINDS]


def test_a_bad_request_names_its_field_first() -> None:
    error = InvalidRequest("speaker", "must be an integer")
    assert (str(error), error.field, error.message) == ("speaker: must be an integer", "speaker", "must be an integer")


def test_an_overload_says_when_to_try_again() -> None:
    assert (Overloaded("full").retry_after_seconds, Overloaded("full", 9).retry_after_seconds) == (1, 9)


def test_an_unknown_request_says_for_how_long_requests_are_known() -> None:
    assert str(UnknownRequest("r")) == "request r is not known; finished requests are kept for ten minutes"

"""A rule is passed over only where it could not have matched: its signs are found in every text that it matches."""

import importlib
import pkgutil
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.speech.text import __path__ as text_path
from serve_app.speech.text import english
from serve_app.speech.text.rule import Rule
from serve_app.speech.text.tracked import Tracked
from tests.unit.speech.text.everyday_cases import CASES


def _rules() -> list[Rule]:
    modules = [f"serve_app.speech.text.{module.name}" for module in pkgutil.iter_modules(text_path)]
    modules += [f"{english.__name__}.{module.name}" for module in pkgutil.iter_modules(english.__path__)]
    values = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    tables = [cast("tuple[object, ...]", value) for value in values if isinstance(value, tuple)]
    return [rule for table in tables for rule in table if isinstance(rule, Rule)]


RULES = [rule for rule in _rules() if rule.needs or rule.words is not None or rule.hint]
TYPED = [typed for cases in CASES.values() for typed, _ in cases]


def test_most_rules_have_a_sign() -> None:
    assert len(RULES) > 80


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern.pattern[:40].encode("ascii", "replace").decode())
def test_no_sign_hides_a_match_in_an_everyday_text(rule: Rule) -> None:
    for typed in TYPED:
        assert rule.may_match(Tracked.typed(typed)) or not rule.pattern.search(typed), typed


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(RULES), st.data())
def test_no_sign_hides_a_match_of_a_made_up_text(rule: Rule, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(rule.pattern))
    assert rule.may_match(Tracked.typed(text)) or not rule.pattern.search(text)

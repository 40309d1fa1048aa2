import pytest

from tests.support.system_packages import need


@pytest.fixture(autouse=True)
def compiler() -> None:
    need("g++")

"""The docs agree with the code: generated tables, the folder tree, links and commands."""

import os
import re
from pathlib import Path

import pytest
import ray

from docs import tables
from serve_app import __version__

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "training" / "README.md"]
_NAMES_THE_IMAGE = [
    ROOT / "deploy" / "Dockerfile",
    ROOT / "deploy" / "kuberay" / "base" / "rayservice.yaml",
    ROOT / "cluster.yaml",
]
_MADE_BY_TOOLS = ("build", "dist", "node_modules", "__pycache__")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_MODULE = re.compile(r"python -m ((?:benchmarks|training|serve_app|docs)[\w.]*)")


@pytest.mark.parametrize("name", tables.BLOCKS)
def test_a_generated_table_is_as_the_code_has_it(name: str) -> None:
    assert tables.written(name) == tables.BLOCKS[name][1](), "run make docs"


def test_every_setting_has_a_description() -> None:
    assert tables.undescribed_settings() == []


def test_the_settings_table_has_the_settings_that_are_nested_and_optional() -> None:
    table = tables.settings_table()
    for name in ("quantization", "engine.step", "failover.max_missed_heartbeats", "stand_in.frames"):
        assert f"| `{name}` |" in table


def test_the_tree_in_the_architecture_page_is_the_tree_on_disk() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.partition("## Where everything is\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([\w/-]+)/` \| \S", section, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(folders())


def folders() -> list[str]:
    """Folders with files of ours. Those below tests/unit and tests/contract follow the packages and are left out."""
    found = []
    for path, names, files in os.walk(ROOT):
        names[:] = [n for n in names if n not in _MADE_BY_TOOLS and not n.startswith(".") and not n.endswith("-info")]
        parts = Path(path).relative_to(ROOT).parts
        if parts and files and not (parts[0] == "tests" and len(parts) > 2):
            found.append("/".join(parts))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> list[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_that_are_to_be_run_exist(page: Path) -> None:
    for module in _MODULE.findall(page.read_text().replace("$(PYTHON)", "python")):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize(
    "path", [*_NAMES_THE_IMAGE, ROOT / "docs" / "install.md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_image_tags_carry_this_version_and_the_installed_ray(path: Path) -> None:
    tags = re.findall(r"/csm-serve:([\w.-]*\w)", path.read_text())
    assert set(tags) == {f"{__version__}-ray{ray.__version__}"}


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## \[?([^\s\]]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__

"""deploy/Dockerfile, read: no image is built here."""

import fnmatch
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import ray

from serve_app.settings import load_settings
from tests.support.deploy_files import DOCKERFILE, ROOT, SERVE_CONFIG, image_is_of, kernels_folder, read


def instructions(text: str) -> list[tuple[str, str]]:
    """(FROM, …), (RUN, …), … with continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined)]


def all_of(text: str, name: str) -> list[str]:
    return [rest for each, rest in instructions(text) if each == name]


def base_is_the_installed_ray(text: str) -> Iterator[str]:
    bases = all_of(text, "FROM")
    if len(bases) != 1 or not bases[0].startswith("rayproject/ray:") or not image_is_of(bases[0], ray.__version__):
        yield f"{bases} is not Ray's own image of {ray.__version__}"
    elif f"py{sys.version_info.major}{sys.version_info.minor}" not in bases[0].split("-"):
        yield f"{bases} is not for this Python"


def it_does_not_run_as_root(text: str) -> Iterator[str]:
    users = all_of(text, "USER")
    if not users or not users[-1].partition(":")[0].isdigit() or users[-1].startswith("0"):
        yield "it ends as root, or as a user whom Kubernetes cannot tell from root"


def everything_copied_is_there(text: str) -> Iterator[str]:
    kept = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    for line in all_of(text, "COPY"):
        sources = [word for word in line.split()[:-1] if not word.startswith("--")]
        for source in sources:
            if not (ROOT / source).exists():
                yield f"{source} is not in the checkout"
            if not any(fnmatch.fnmatch(source, pattern[1:]) for pattern in kept if pattern.startswith("!")):
                yield f"{source} is left out by Dockerfile.dockerignore"


def what_is_installed_is_locked(text: str) -> Iterator[str]:
    for command in all_of(text, "RUN"):
        for install in re.findall(r"uv pip install [^&]*", command):
            if "--constraint requirements.lock" not in install and "--no-deps" not in install:
                yield f"{install} takes what is newest"
        if re.search(r"(?<!uv )pip install", command):
            yield "pip cannot resolve moshi's bounds"


def commands_of_its_own_environment_come_first(text: str) -> Iterator[str]:
    environment = " ".join(all_of(text, "ENV"))
    folder = re.search(r"VIRTUAL_ENV=(\S+)", environment)
    if folder is None or f"PATH={folder[1]}/bin:$PATH" not in environment:
        yield "Ray would find its own Python first"
    if not any(
        re.search(r'echo "export PATH=\$VIRTUAL_ENV/bin:\\\$PATH" >> \S*/\.bashrc', run) for run in all_of(text, "RUN")
    ):
        yield "and `ray up` would, by the .bashrc of Ray's image"


def it_brings_the_kernels_of_the_configurations(text: str) -> Iterator[str]:
    """Compiled after the server is there, into the folder where it will look for them."""
    steps = instructions(text)
    folder, compiling = kernels_folder(text), [rest for _, rest in steps if "csm-serve kernels compile" in rest]
    if folder is None or len(compiling) != 1:
        yield f"TRITON_CACHE_DIR is {folder}, and kernels are compiled {len(compiling)} times"
        return
    compiled_at = steps.index(("RUN", compiling[0]))
    if not any(name == "ENV" and "TRITON_CACHE_DIR=" in rest for name, rest in steps[:compiled_at]):
        yield "they are compiled into another folder than the one that the server reads"
    if not any("uv pip install" in rest and rest.split()[-1] == "version" for _, rest in steps[:compiled_at]):
        yield "they are compiled before the server is installed"
    if set(re.findall(r"sm_\d+", compiling[0])) != {"sm_80", "sm_86", "sm_89", "sm_90"}:
        yield "a kind of card is left out"
    slots = re.search(r"CSM_ENGINE__MAX_BATCH_SIZE=(\d+) csm-serve", compiling[0])
    for config in (SERVE_CONFIG, ROOT / "serve_app" / "configs" / "gpu.yaml"):
        served = load_settings(read(config)["applications"][0]["args"])
        if slots is None or int(slots[1]) != served.engine.max_batch_size:
            yield f"{config.name} serves {served.engine.max_batch_size} slots, compiled is for {slots and slots[1]}"
        usual = load_settings({})
        if (served.engine.max_positions, served.quantization) != (usual.engine.max_positions, usual.quantization):
            yield f"{config.name} serves other positions or matrices than those that are compiled by default"


CHECKS = (
    base_is_the_installed_ray,
    it_does_not_run_as_root,
    everything_copied_is_there,
    what_is_installed_is_locked,
    commands_of_its_own_environment_come_first,
    it_brings_the_kernels_of_the_configurations,
)
MISTAKES = {
    "an older Ray": (base_is_the_installed_ray, f"ray:{ray.__version__}", "ray:2.59.0"),
    "another Python": (base_is_the_installed_ray, "-py311", "-py312"),
    "another image": (base_is_the_installed_ray, "rayproject/ray:", "somebody/ray:"),
    "root at the end": (it_does_not_run_as_root, "USER 1000", "USER root"),
    "a name for a user": (it_does_not_run_as_root, "USER 1000", "USER ray"),
    "a missing file": (everything_copied_is_there, "README.md LICENSE", "README.md COPYING"),
    "an ignored file": (everything_copied_is_there, "README.md LICENSE", "README.md Makefile"),
    "no lock": (what_is_installed_is_locked, "--constraint requirements.lock ", ""),
    "pip": (what_is_installed_is_locked, "uv pip install --no-cache --no-deps", "pip install --no-deps"),
    "a login shell's path": (commands_of_its_own_environment_come_first, ">> /home/ray/.bashrc", ">> /dev/null"),
    "no kernels": (
        it_brings_the_kernels_of_the_configurations,
        "csm-serve kernels compile",
        "csm-serve version --arch",
    ),
    "kernels out of sight": (
        it_brings_the_kernels_of_the_configurations,
        "ENV TRITON_CACHE_DIR",
        "ENV TRITON_DUMP_DIR",
    ),
    "kernels elsewhere": (
        it_brings_the_kernels_of_the_configurations,
        "ENV TRITON_CACHE_DIR=/home/ray/kernels\nRUN CSM_ENGINE__MAX_BATCH_SIZE=32 csm-serve kernels compile "
        "--arch sm_90,sm_89,sm_86,sm_80\n",
        "RUN CSM_ENGINE__MAX_BATCH_SIZE=32 csm-serve kernels compile --arch sm_90,sm_89,sm_86,sm_80\n"
        "ENV TRITON_CACHE_DIR=/home/ray/kernels\n",
    ),
    "kernels of another batch": (it_brings_the_kernels_of_the_configurations, "BATCH_SIZE=32", "BATCH_SIZE=8"),
    "no kernels for Ada": (it_brings_the_kernels_of_the_configurations, "sm_90,sm_89,sm_86,sm_80", "sm_90,sm_86,sm_80"),
    "no path": (commands_of_its_own_environment_come_first, "PATH=/home/ray/venv/bin:", "PATH="),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong_with_it(check: Callable[[str], Iterator[str]]) -> None:
    assert list(check(DOCKERFILE.read_text())) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    check, old, new = MISTAKES[mistake]
    text = DOCKERFILE.read_text()
    assert old in text
    assert list(check(text.replace(old, new))) != []


def test_every_check_has_a_mistake_to_find() -> None:
    assert {check for check, _, _ in MISTAKES.values()} == set(CHECKS)

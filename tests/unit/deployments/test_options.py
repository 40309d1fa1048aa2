"""Which deployments take a share of a card, and when."""

import pytest

from serve_app.deployments.options import computes_on_gpu, deployment_options, most_in_engine, with_gpu_shares
from serve_app.settings import EngineSettings, Settings, StandInSettings

COMPUTING = ("ContextEncoder", "TokenGenerator", "AudioDecoder")


def test_without_a_gpu_nobody_asks_for_one() -> None:
    for values in deployment_options(Settings()).values():
        assert "num_gpus" not in values["ray_actor_options"]


def test_one_card_holds_the_three_that_compute() -> None:
    options = with_gpu_shares(deployment_options(Settings()))
    shares = {name: values["ray_actor_options"].get("num_gpus", 0) for name, values in options.items()}
    assert sum(shares.values()) == pytest.approx(1)
    assert {name for name, share in shares.items() if share} == set(COMPUTING)


def test_shares_leave_every_other_option_as_it_was() -> None:
    plain = deployment_options(Settings())
    shared = with_gpu_shares(plain)
    for name in COMPUTING:
        del shared[name]["ray_actor_options"]["num_gpus"]
    assert shared == plain == deployment_options(Settings())


def test_the_memory_that_is_promised_leaves_a_tenth_of_the_card_to_cuda_itself() -> None:
    settings = Settings()
    assert settings.engine.memory_fraction + 2 * settings.codec.memory_fraction <= 0.9


@pytest.mark.parametrize(
    ("device", "cluster_has_gpu", "on_gpu"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("cpu", True, False),
        ("cuda", True, True),
        ("cuda", False, True),  # a cluster that scales may start a node for it
    ],
)
def test_the_device_says_who_computes_where(device: str, cluster_has_gpu: bool, on_gpu: bool) -> None:
    assert computes_on_gpu(Settings(**{"device": device}), cluster_has_gpu) == on_gpu


@pytest.mark.parametrize("max_waiting", [0, 5000])
def test_no_request_waits_where_nobody_refuses_it(max_waiting: int) -> None:
    """Serve's own queues have no end and no time limit. Background work is kept beside what others may ask for."""
    engine = EngineSettings(max_waiting=max_waiting)
    options = deployment_options(Settings(engine=engine))
    assert options["TokenGenerator"]["max_ongoing_requests"] > 2 * most_in_engine(EngineSettings())
    assert options["TokenGenerator"]["max_ongoing_requests"] > most_in_engine(engine)
    assert options["AudioDecoder"]["max_ongoing_requests"] > 12 * most_in_engine(EngineSettings())


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_stand_in_computes_nothing(device: str) -> None:
    settings = Settings(**{"model": "stand-in", "stand_in": StandInSettings(), "device": device})
    assert not computes_on_gpu(settings, cluster_has_gpu=True)


def test_a_fused_decoder_takes_the_share_and_the_router_of_its_generator() -> None:
    separate, fused = (with_gpu_shares(deployment_options(Settings(graph=graph))) for graph in ("separate", "fused"))
    assert fused.keys() == separate.keys() - {"TokenGenerator"}
    decoder = fused["AudioDecoder"]
    assert decoder["request_router_config"] == separate["TokenGenerator"]["request_router_config"]
    for resource in ("num_cpus", "num_gpus"):
        parts = [separate[name]["ray_actor_options"][resource] for name in ("TokenGenerator", "AudioDecoder")]
        assert decoder["ray_actor_options"][resource] == pytest.approx(sum(parts))

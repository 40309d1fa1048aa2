"""Shares of cards and numbers of replicas that cannot be are refused before anything starts."""

from typing import Any

import pytest

from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.errors import StartupError
from serve_app.preflight.placement import (
    Nodes,
    NodeType,
    Replicas,
    check_nodes,
    check_shared_cards,
    check_shares,
    replicas_of,
)
from serve_app.preflight.serve_config import OurApplication
from serve_app.settings import CodecSettings, EngineSettings, Settings


def replicas(*deployments: dict[str, Any], on_cards: bool = True) -> list[Replicas]:
    options = deployment_options(Settings())
    application = OurApplication("applications[0]", "csm", {}, list(deployments))
    return replicas_of(application, with_gpu_shares(options) if on_cards else options)


def sharing(name: str, num_gpus: float, most: int = 1) -> dict[str, Any]:
    return {"name": name, "num_replicas": most, "ray_actor_options": {"num_cpus": 1, "num_gpus": num_gpus}}


def test_the_defaults_are_the_deployments_own() -> None:
    needs = {each.deployment: (each.share, each.most) for each in replicas()}
    assert needs["TokenGenerator"] == (0.6, 1)
    assert sum(share for share, _ in needs.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"num_replicas": 3}, 3),
        ({"autoscaling_config": {"min_replicas": 0, "max_replicas": 5}}, 5),
        ({"num_replicas": "auto", "autoscaling_config": {"max_replicas": 7}}, 7),
        ({"num_replicas": "auto"}, 100),
        ({"autoscaling_config": {"min_replicas": 1}}, 1),
    ],
    ids=["fixed", "autoscaling", "auto with bounds", "auto", "autoscaling without a bound"],
)
def test_the_most_replicas_are_as_serve_has_them(options: dict[str, Any], most: int) -> None:
    [generator] = [each for each in replicas({"name": "TokenGenerator", **options}) if each.share == 0.6]
    assert generator.most == most


def test_options_of_actors_replace_the_defaults_whole() -> None:
    [generator] = [
        each
        for each in replicas({"name": "TokenGenerator", "ray_actor_options": {"resources": {"fast": 1}}})
        if each.deployment == "TokenGenerator"
    ]
    assert generator.needs == {"CPU": 1, "GPU": 0, "fast": 1}


def test_the_usual_shares_are_fine() -> None:
    check_shares(replicas(), Settings(device="cuda"))
    check_shares(replicas(on_cards=False), Settings(device="cpu"))


def test_one_replica_cannot_have_more_than_a_card() -> None:
    with pytest.raises(
        StartupError, match=r"^applications\[0\]\.deployments\[0\]\.ray_actor_options\.num_gpus: 1\.5 is more than"
    ):
        check_shares(replicas(sharing("TokenGenerator", 1.5)), Settings())


def test_a_share_that_was_forgotten_is_asked_for() -> None:
    forgotten = {"name": "AudioDecoder", "ray_actor_options": {"num_cpus": 1}}
    with pytest.raises(StartupError, match=r"ray_actor_options\.num_gpus: is not given and device is cuda"):
        check_shares(replicas(forgotten), Settings(device="cuda"))
    check_shares(replicas(forgotten), Settings(device="auto"))


def test_those_who_share_a_card_must_share_its_memory() -> None:
    greedy = Settings(engine=EngineSettings(memory_fraction=0.8))
    with pytest.raises(
        StartupError,
        match=r"^engine\.memory_fraction 0\.8 and codec\.memory_fraction 0\.15 promise 1\.10 of a card's memory, since "
        r"num_gpus lets 1 ContextEncoder, 1 TokenGenerator, 1 AudioDecoder share one",
    ):
        check_shares(replicas(), greedy)
    check_shares(replicas(sharing("TokenGenerator", 1)), greedy)


def test_more_replicas_of_one_kind_may_share_a_card_too() -> None:
    settings = Settings(codec=CodecSettings(memory_fraction=0.3), engine=EngineSettings(memory_fraction=0.4))
    check_shares(replicas(), settings)
    with pytest.raises(StartupError, match="lets 4 AudioDecoder share one"):
        check_shares(replicas(sharing("AudioDecoder", 0.25, most=4)), settings)


def test_a_fused_decoder_takes_the_memory_of_both() -> None:
    fused = Settings(graph="fused", engine=EngineSettings(memory_fraction=0.8))
    application = OurApplication("applications[0]", "csm", {}, [])
    with pytest.raises(StartupError, match=r"promise 1\.10 .* 1 ContextEncoder, 1 AudioDecoder share one"):
        check_shares(replicas_of(application, with_gpu_shares(deployment_options(fused))), fused)


def test_applications_that_share_a_card_must_share_its_memory() -> None:
    half = Settings(engine=EngineSettings(memory_fraction=0.3), codec=CodecSettings(memory_fraction=0.1))
    beside = [sharing("TokenGenerator", 0.2), sharing("AudioDecoder", 0.1), sharing("ContextEncoder", 0.1)]
    check_shared_cards([(replicas(*beside), half), (replicas(*beside), half)])
    with pytest.raises(StartupError, match=r"^applications: memory_fraction promises 1\.50 .* 2 TokenGenerator,"):
        check_shared_cards([(replicas(*beside), Settings(engine=half.engine)), (replicas(*beside), Settings())])


GPU_NODE = {"CPU": 4.0, "GPU": 1.0}
CPU_NODE = {"CPU": 4.0, "cpu_node": 1.0}


def nodes(gpus: int = 1, cpus: int = 1, most: int = 100) -> Nodes:
    return Nodes("c.yaml", (NodeType("gpu", GPU_NODE, gpus), NodeType("cpu", CPU_NODE, cpus)), most)


def test_one_node_with_a_card_holds_one_of_each() -> None:
    assert check_nodes(replicas(), nodes()) == 1


def test_a_card_fits_as_many_as_its_shares_allow() -> None:
    with pytest.raises(
        StartupError,
        match=r"^applications\[0\]\.deployments\[0\]\.num_replicas: 3 replicas of TokenGenerator are more than c\.yaml "
        r"can hold beside the others, 2 fit: lower it, or raise max_workers$",
    ):
        check_nodes(replicas(sharing("TokenGenerator", 0.6, most=3)), nodes(gpus=2))
    assert check_nodes(replicas(sharing("TokenGenerator", 0.6, most=3)), nodes(gpus=3)) == 3


def test_the_clusters_own_bound_counts() -> None:
    with pytest.raises(StartupError, match="2 fit"):
        check_nodes(replicas(sharing("TokenGenerator", 0.6, most=3)), nodes(gpus=3, most=2))


def test_cpus_run_out_too() -> None:
    many = {"name": "Ingress", "num_replicas": 9, "ray_actor_options": {"num_cpus": 1}}
    # Four on the CPU node, three beside the card whose replicas take a little of each of its CPUs.
    with pytest.raises(StartupError, match=r"9 replicas of Ingress .* 7 fit"):
        check_nodes(replicas(many), nodes())


def test_what_no_node_has_is_refused_by_what_it_needs() -> None:
    with pytest.raises(
        StartupError,
        match=r"^applications\[0\]\.deployments\[0\]\.ray_actor_options: a replica needs 8 CPU, 0\.6 GPU, and no node "
        r"type of c\.yaml has that",
    ):
        wide = {"name": "TokenGenerator", "ray_actor_options": {"num_cpus": 8, "num_gpus": 0.6}}
        check_nodes(replicas(wide), nodes())


def test_a_node_type_that_may_not_start_counts_for_nothing() -> None:
    with pytest.raises(StartupError, match="no node type"):
        check_nodes(replicas(), nodes(gpus=0))


def test_a_resource_of_the_clusters_own_naming_is_looked_for() -> None:
    beside = {"name": "Ingress", "ray_actor_options": {"num_cpus": 1, "resources": {"cpu_node": 0.5}}}
    assert check_nodes(replicas({**beside, "num_replicas": 2}), nodes()) == 2
    with pytest.raises(StartupError, match=r"3 replicas of Ingress .* 2 fit"):
        check_nodes(replicas({**beside, "num_replicas": 3}), nodes())


def test_so_many_on_each_node_are_no_more_than_the_nodes_hold() -> None:
    apart = {"name": "Ingress", "num_replicas": 3, "max_replicas_per_node": 1, "ray_actor_options": {"num_cpus": 0.1}}
    assert check_nodes(replicas(apart), nodes(cpus=2)) == 3
    with pytest.raises(StartupError, match=r"3 replicas of Ingress .* 2 fit"):
        check_nodes(replicas(apart), nodes(cpus=1))
    assert check_nodes(replicas(apart | {"max_replicas_per_node": 2}), nodes(cpus=1)) == 2


def test_no_number_of_cpus_is_rays_default_of_one() -> None:
    [generator] = [
        each
        for each in replicas({"name": "TokenGenerator", "ray_actor_options": {"num_cpus": None}})
        if each.deployment == "TokenGenerator"
    ]
    assert generator.needs["CPU"] == 1


def test_replicas_that_may_fill_a_card_before_another_needs_it_are_refused() -> None:
    """Serve spreads them: two decoders on one card leave 0.5 of it, and a generator needs 0.6."""
    fitting = [sharing("TokenGenerator", 0.6, most=2), sharing("AudioDecoder", 0.25, most=2)]
    with pytest.raises(StartupError, match=r"max_replicas_per_node: 2 AudioDecoder.*TokenGenerator finds no"):
        check_nodes(replicas(*fitting), nodes(gpus=2))
    fitting[1]["max_replicas_per_node"] = 1
    assert check_nodes(replicas(*fitting), nodes(gpus=2)) == 2

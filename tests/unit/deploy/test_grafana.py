"""deploy/grafana/: what the panels and alerts ask for exists, Prometheus can read it, and each alert goes off."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.serve
import yaml

from serve_app import metrics
from tests.support.deploy_files import ALERTS, DASHBOARD, ROOT, read
from tests.support.system_packages import need

SERVE_METRICS = {
    "serve_deployment_replica_healthy",
    "serve_autoscaling_target_replicas",
    "serve_autoscaling_desired_replicas",
    "serve_deployment_queued_queries",
    "serve_health_check_failures_total",
}
"""Ray Serve's own that are asked for."""

_METRIC = re.compile(r"\bray_\w+")
_STRING = re.compile(r'"[^"]*"')


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in read(ALERTS)["groups"] for rule in group["rules"]]


def queries() -> dict[str, str]:
    """PromQL by where it stands."""
    asked = {f"{panel['title']} {each['refId']}": each["expr"] for panel in panels() for each in panel["targets"]}
    return asked | {rule["alert"]: rule["expr"] for rule in rules()}


def exported_names() -> set[str]:
    """As Prometheus has them from Ray's exporter."""
    names = set()
    for metric in metrics.ALL:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {f"ray_{metric.name}{suffix}" for suffix in suffixes}
    return names | {f"ray_{name}" for name in SERVE_METRICS}


def unknown_metrics(query: str) -> set[str]:
    return set(_METRIC.findall(query)) - exported_names()


def unknown_labels(query: str) -> Iterator[str]:
    """Of our metrics: those that nobody gives. Ray adds three labels to each, Prometheus le to histograms."""
    by_name = {f"ray_{metric.name}": set(metric.labels) for metric in metrics.ALL}
    for name, selector in re.findall(r"\b(ray_csm_\w+?)(?:_bucket|_sum|_count)?\{([^}]*)\}", query):
        known = by_name[name] | {"application", "deployment", "replica", "le"}
        yield from set(re.findall(r"(\w+)\s*[=!]~?", selector)) - known


def is_balanced(query: str) -> bool:
    closing = {")": "(", "]": "[", "}": "{"}
    opened: list[str] = []
    for character in _STRING.sub("", query):
        if character in closing.values():
            opened.append(character)
        elif character in closing and (not opened or opened.pop() != closing[character]):
            return False
    return not opened


@pytest.mark.parametrize("where", queries())
def test_what_is_asked_for_exists(where: str) -> None:
    query = queries()[where]
    assert _METRIC.search(query)
    assert unknown_metrics(query) == set()
    assert list(unknown_labels(query)) == []
    assert is_balanced(query)


def test_mistakes_in_a_query_are_found() -> None:
    assert unknown_metrics("rate(ray_csm_queue_seconds[5m])") == {"ray_csm_queue_seconds"}
    assert unknown_metrics("ray_csm_engine_slot") == {"ray_csm_engine_slot"}
    assert list(unknown_labels('ray_csm_requests_ended_total{result="eos"}')) == ["result"]
    assert not is_balanced("sum(rate(ray_csm_requests_live[5m]))(")
    assert not is_balanced("sum(rate(ray_csm_requests_live[5m)])")


def test_ray_serves_own_metrics_are_of_the_installed_version() -> None:
    sources = Path(ray.serve.__file__).parent / "_private"
    text = "".join(path.read_text() for path in sources.rglob("*.py"))
    assert {name for name in SERVE_METRICS if f'"{name}"' not in text} == set()


def test_every_panel_shows_the_applications_that_are_chosen() -> None:
    for where, query in queries().items():
        if "$__rate_interval" in query or where.rpartition(" ")[0] in {panel["title"] for panel in panels()}:
            chosen = query.count('{application=~"$application"')
            assert chosen == len(_METRIC.findall(query)), where


def test_panels_have_places_of_their_own() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} <= set(range(24))


def test_every_invariant_of_the_docs_has_its_alert() -> None:
    page = (ROOT / "docs" / "observe.md").read_text()
    invariants = set(re.findall(r"^- `(.*ray_csm_.* > .*ray_csm_.*)`$", page, re.MULTILINE))
    assert len(invariants) == 4
    assert invariants <= {rule["expr"] for rule in rules()}


def check_rules(groups: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    command = ["promtool", "check", "rules", "--lint-fatal", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    need("promtool")
    asked = [
        {"record": f"panel:{index}", "expr": query.replace("$__rate_interval", "5m")}
        for index, query in enumerate(queries().values())
    ]
    checked = check_rules([{"name": "queries", "rules": asked}, *read(ALERTS)["groups"]], tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    broken = [{"record": "broken", "expr": "sum by part (ray_csm_requests_live)"}]
    assert check_rules([{"name": "queries", "rules": broken}], tmp_path).returncode != 0


OF = '{application="csm",deployment="TokenGenerator"}'
HEALTHY = "ray_serve_deployment_replica_healthy"
FIRING = {
    "CsmRefusals": {
        'ray_csm_requests_ended_total{outcome="refused"}': "0+6x30",
        'ray_csm_requests_ended_total{outcome="eos"}': "0+94x30",
    },
    "CsmUnderruns": {
        'ray_csm_stream_underrun_seconds_bucket{le="0.1"}': "0+94x30",
        "ray_csm_stream_underrun_seconds_count": "0+100x30",
    },
    "CsmQueueAge": {"ray_csm_engine_oldest_wait_seconds": "6x30"},
    "CsmFailoversFailed": {'ray_csm_failovers_failed_total{part="generator"}': "0x10 1x19"},
    "CsmLeasesExpired": {'ray_csm_leases_expired_total{part="decoder"}': "0x10 1x19"},
    "CsmGeneratorSlotsLeak": {
        "ray_csm_engine_running": "3x30",
        "ray_csm_engine_waiting": "1x30",
        "ray_csm_engine_streams": "3x30",
    },
    "CsmDecoderSlotsLeak": {"ray_csm_decoder_busy": "4x30", "ray_csm_decoder_streams": "3x30"},
    "CsmGeneratorCallsLeak": {"ray_csm_engine_streams": "6x30", "ray_csm_decoder_streams": "3x30"},
    "CsmDecoderCallsLeak": {"ray_csm_decoder_streams": "6x30", "ray_csm_requests_live": "3x30"},
    "CsmFirstAudioSlow": {
        'ray_csm_time_to_first_audio_seconds_bucket{le="1.0"}': "0+90x30",
        'ray_csm_time_to_first_audio_seconds_bucket{le="2.0"}': "0+100x30",
        'ray_csm_time_to_first_audio_seconds_bucket{le="+Inf"}': "0+100x30",
    },
    "CsmReplicasMissing": {f"ray_serve_autoscaling_target_replicas{OF}": "3x30", f"{HEALTHY}{OF}": "2x30"},
    "CsmAtMaxReplicas": {
        f"ray_serve_autoscaling_desired_replicas{OF}": "5x30",
        f"ray_serve_autoscaling_target_replicas{OF}": "4x30",
    },
    "CsmJobsWait": {"ray_csm_jobs_oldest_wait_seconds": "0+80x30"},
    "CsmWebhooksDead": {"ray_csm_webhooks_dead": "1x15 2x14"},
    "CsmStepFallback": {'ray_csm_engine_step_fallback{application="csm"}': "1x30"},
    "CsmGone": {"ray_csm_engine_slots": "32x5 _x24"},
}
"""What each alert is for, as samples a minute."""
QUIET = {
    "CsmRefusals": {
        'ray_csm_requests_ended_total{outcome="refused"}': "0+4x30",
        'ray_csm_requests_ended_total{outcome="eos"}': "0+96x30",
    },
    "CsmUnderruns": {
        'ray_csm_stream_underrun_seconds_bucket{le="0.1"}': "0+96x30",
        "ray_csm_stream_underrun_seconds_count": "0+100x30",
    },
    "CsmQueueAge": {"ray_csm_engine_oldest_wait_seconds": "4x30"},
    "CsmFailoversFailed": {'ray_csm_failovers_failed_total{part="generator"}': "1x30"},
    "CsmLeasesExpired": {'ray_csm_leases_expired_total{part="decoder"}': "1x30"},
    "CsmFirstAudioSlow": {
        'ray_csm_time_to_first_audio_seconds_bucket{le="1.0"}': "0+96x30",
        'ray_csm_time_to_first_audio_seconds_bucket{le="2.0"}': "0+100x30",
        'ray_csm_time_to_first_audio_seconds_bucket{le="+Inf"}': "0+100x30",
    },
    # A node comes.
    "CsmReplicasMissing": {f"ray_serve_autoscaling_target_replicas{OF}": "3x30", f"{HEALTHY}{OF}": "2x8 3x21"},
    "CsmAtMaxReplicas": {
        f"ray_serve_autoscaling_desired_replicas{OF}": "4x30",
        f"ray_serve_autoscaling_target_replicas{OF}": "4x30",
    },
    "CsmJobsWait": {"ray_csm_jobs_oldest_wait_seconds": "800x30"},
    "CsmWebhooksDead": {"ray_csm_webhooks_dead": "2x30"},
    "CsmStepFallback": {'ray_csm_engine_step_fallback{application="csm"}': "0x30"},
    "CsmGone": {"ray_csm_engine_slots": "32x30"},
    # Off for a moment, as while streams open and close.
    "CsmGeneratorSlotsLeak": {
        "ray_csm_engine_running": "3x19 4 3x10",
        "ray_csm_engine_waiting": "0x30",
        "ray_csm_engine_streams": "3x30",
    },
    "CsmDecoderSlotsLeak": {"ray_csm_decoder_busy": "3x19 4 3x10", "ray_csm_decoder_streams": "3x30"},
    "CsmGeneratorCallsLeak": {"ray_csm_engine_streams": "3x19 4 3x10", "ray_csm_decoder_streams": "3x30"},
    "CsmDecoderCallsLeak": {"ray_csm_decoder_streams": "3x19 4 3x10", "ray_csm_requests_live": "3x30"},
}


def goes_off(alert: str, samples: dict[str, str], folder: Path) -> bool:
    """After twenty minutes of these samples, as Prometheus itself judges."""
    path = folder / "test.yaml"
    series = [{"series": name, "values": values} for name, values in samples.items()]
    silence = [{"eval_time": "20m", "alertname": alert, "exp_alerts": []}]
    path.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(ALERTS)],
                "evaluation_interval": "1m",
                "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": silence}],
            }
        )
    )
    tested = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0 or f"alertname: {alert}, time: 20m" in tested.stdout + tested.stderr, tested.stderr
    return tested.returncode != 0


@pytest.mark.parametrize("alert", ["CsmFailoversFailed", "CsmLeasesExpired"])
def test_a_replicas_first_one_counts(alert: str, tmp_path: Path) -> None:
    """Its counter is not there before."""
    need("promtool")
    (series,) = FIRING[alert]
    assert goes_off(alert, {series: "_x15 1x14"}, tmp_path)
    assert not goes_off(alert, {series: "_x5 1x24"}, tmp_path), "it was long ago"


def test_every_alert_has_its_samples() -> None:
    assert {rule["alert"] for rule in rules()} == set(FIRING) == set(QUIET)


@pytest.mark.parametrize("alert", FIRING)
def test_an_alert_goes_off_when_it_should_and_not_before(alert: str, tmp_path: Path) -> None:
    need("promtool")
    assert goes_off(alert, FIRING[alert], tmp_path)
    assert not goes_off(alert, QUIET[alert], tmp_path)

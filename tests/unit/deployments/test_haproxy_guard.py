"""HAProxy's config of the installed Serve, with the limits that it lacks."""

import subprocess
from pathlib import Path

import pytest
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from serve_app.deployments.haproxy_guard import COMMAND, guarded

# As Serve writes the parts that matter.
CONFIG = """global
    stats socket /tmp/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout client 3600s
frontend http_frontend
    bind *:8000
listen stats
  bind *:8404
  stats enable
"""


@pytest.mark.parametrize("config", [CONFIG, HAPROXY_CONFIG_TEMPLATE], ids=["written", "template"])
def test_headers_have_a_time_and_control_is_this_users(config: str) -> None:
    lines = [line.strip() for line in guarded(config).splitlines()]
    assert lines[lines.index("defaults") + 1] == "timeout http-request 20s"
    assert not any("mode 666" in line for line in lines)
    assert lines[lines.index("listen stats") + 1].startswith("bind 127.0.0.1:")


def test_who_is_served_stays() -> None:
    assert "bind *:8000" in guarded(CONFIG)


@pytest.mark.parametrize("lost", ["defaults", "mode 666", "listen stats"])
def test_a_config_that_has_changed_is_not_run_unguarded(lost: str) -> None:
    with pytest.raises(ValueError, match="Serve's HAProxy config has changed"):
        guarded(CONFIG.replace(lost, "other"))


def test_the_command_becomes_haproxy_on_the_guarded_copy(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(
        CONFIG.replace("/tmp", str(tmp_path)) + "  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n"
    )
    checked = subprocess.run([COMMAND, "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "timeout http-request 20s" in path.with_suffix(".guarded.cfg").read_text()

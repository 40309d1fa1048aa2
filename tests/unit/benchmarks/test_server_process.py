"""A measured server does not outlive the measurement, however that ends."""

import signal
import subprocess
import sys
import time

import psutil

_SERVER = """
import sys
from fastapi import FastAPI
import uvicorn
app = FastAPI()
app.get("/ready")(lambda: {})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""
_MEASUREMENT = f"""
import os, time
from benchmarks.common.server_process import free_port, started
port = free_port()
with started(["-c", {_SERVER!r}, str(port)], dict(os.environ), f"http://127.0.0.1:{{port}}") as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_a_measurement_that_is_told_to_end_takes_its_server_along() -> None:
    measurement = subprocess.Popen([sys.executable, "-c", _MEASUREMENT], stdout=subprocess.PIPE, text=True)
    assert measurement.stdout is not None
    server = psutil.Process(int(measurement.stdout.readline()))
    measurement.send_signal(signal.SIGTERM)
    assert measurement.wait(timeout=60) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server goes on"
        time.sleep(0.05)

"""A complete NDIF server on this machine: Redis, an object store, a model hub, Ray, the controller and the API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import environment

SHIMS = environment.HERE / "shims"
STAND_IN_HUB = environment.HERE.parent / "crosstime" / "stand_in_hub.py"
# Outside the range of Ray's workers, 10002 to 19999
PORTS = {"redis": 26379, "store": 29000, "hub": 28100, "gcs": 26385, "ray": 20001, "dashboard": 28265, "api": 28001}
HOST = f"http://127.0.0.1:{PORTS['api']}"
HUB = f"http://127.0.0.1:{PORTS['hub']}"
READY_WITHIN = 240
ACTORS = ("Trusted", "Sandboxed")
"""Where a request runs: in the process of the model, or in a separate process."""


class Stack:
    """A context in which the server runs, with one of `ACTORS`.

    All ports are inside the network namespace that `run.py` creates. Ray's workers detach from their parents and end
    with the process namespace.
    """

    def __init__(self, actor: str, repository: str, checkpoints: Path, work: Path) -> None:
        self.actor, self.repository, self.checkpoints, self.work = actor, repository, checkpoints, work
        self.running: dict[str, subprocess.Popen] = {}
        work.mkdir(parents=True, exist_ok=True)
        self.bin = environment.python().parent
        self.redis, self.redis_needs = environment.redis()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NDIF_", "RAY_", "HF_"))}
        inherited.pop("OMP_NUM_THREADS", None)
        self.variables = inherited | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(SHIMS),
            "NDIF_REDIS_URL": f"redis://127.0.0.1:{PORTS['redis']}",
            "NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{PORTS['store']}",
            "NDIF_RAY_ADDRESS": f"ray://127.0.0.1:{PORTS['ray']}",
            "NDIF_API_PORT": str(PORTS["api"]),
            "NDIF_API_URL": HOST,
            "NDIF_MODEL_IMPORT_PATH": f"ndif_cpu.{actor}",
            "NDIF_CONTROLLER_IMPORT_PATH": "ndif_cpu_controller.Controller",
            "NDIF_SANDBOX_POOL_SIZE": "1",
            "NDIF_DEFAULT_DTYPE": "float32",
            "NDIF_DEFAULT_PADDING_BIAS": "0",
            "NDIF_MINIMUM_DEPLOYMENT_TIME_SECONDS": "0",
            "NDIF_DEFAULT_EXECUTION_TIMEOUT_SECONDS": "120",
            "NDIF_AUTOSCALING_MAX_REPLICAS": "1",
            "HF_HOME": str(work / "hub-cache"),
            "HF_ENDPOINT": HUB,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # Otherwise models run at a lower priority than the client that waits for them
            "RAY_worker_niceness": "0",
            # Otherwise Ray ends models when other programs fill this machine's memory
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "*",
        }

    def __enter__(self) -> Stack:
        port = {name: str(number) for name, number in PORTS.items()}
        local = "127.0.0.1"
        redis = [str(self.redis), "--port", port["redis"], "--bind", local, "--save", ""]
        self._start("redis", redis, self.redis_needs)
        self._start("store", [str(self.bin / "moto_server"), "-H", local, "-p", port["store"]])
        self._start("hub", [sys.executable, str(STAND_IN_HUB), self.repository, str(self.checkpoints), port["hub"]])
        resources = {"head": 10, "cuda_memory_bytes": 4 << 30, "cpu_memory_bytes": 4 << 30}
        options = [
            f"--node-ip-address={local}",
            f"--port={port['gcs']}",
            "--num-cpus=16",
            "--num-gpus=1",
            f"--resources={json.dumps(resources)}",
            f"--ray-client-server-port={port['ray']}",
            "--include-dashboard=true",
            f"--dashboard-host={local}",
            f"--dashboard-port={port['dashboard']}",
            "--object-store-memory=200000000",
            "--disable-usage-stats",
            f"--temp-dir={self.work / 'ray'}",
        ]
        self._start("ray", [str(self.bin / "ray"), "start", "--head", "--block", *options])
        for name in ("redis", "store", "hub", "gcs", "ray", "dashboard"):
            self._wait(name)
        self.start_api()
        address = {"RAY_ADDRESS": f"127.0.0.1:{PORTS['gcs']}", "NDIF_SERVICE": "ray"}
        module = ["-m", "ndif.services.ray.deployments.controller.controller"]
        self._start("controller", [str(self.bin / "python"), *module], address).wait(120)
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(list(self.running.values())):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def start_api(self) -> None:
        """Start the API process."""
        gunicorn = [str(self.bin / "gunicorn"), "--config", "python:ndif.services.api.gunicorn_conf"]
        bind = ["--bind", f"127.0.0.1:{PORTS['api']}", "ndif.services.api.app:app"]
        settings = {"NDIF_SERVICE": "api", "NNSIGHT_CONFIG": str(SHIMS / "nnsight.yaml")}
        self._start("api", [*gunicorn, *bind], settings)
        self._wait("api")

    def kill_api(self) -> None:
        """Kill the API process and its workers."""
        process = self.running.pop("api")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_until_ready(self) -> None:
        """Wait until the API is connected to Ray."""
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until:
            try:
                if urllib.request.urlopen(f"{HOST}/connected", timeout=5).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.3)
        raise TimeoutError(f"the server was not ready in {READY_WITHIN} s; logs are in {self.work}")

    def _start(self, name: str, command: list[str], more: dict[str, str] | None = None) -> subprocess.Popen:
        with (self.work / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.variables | (more or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.work,
            )
        self.running[name] = process
        return process

    def _wait(self, name: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", PORTS[name]), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(f"{name} did not open its port in {seconds:g} s; logs are in {self.work}")

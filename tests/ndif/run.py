"""Run the client's tests against a real NDIF server on this machine: `python tests/ndif/run.py [pytest arguments]`.

The server's packages are installed once into a cache folder (1.7 GB; `CROSSTIME_NDIF_CACHE` names another). Server
and tests run inside their own network and process namespaces, so that no port can be reached from outside and no
process stays behind. If namespaces are not allowed, or the packages cannot be installed, the tests are skipped with the
reason; with `CROSSTIME_NDIF_REQUIRED=1` they fail. Measurements are appended to the file in `CROSSTIME_NDIF_FIGURES`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
import stack

SIOCSIFFLAGS, UP_AND_RUNNING, PR_SET_PDEATHSIG = 0x8914, 0x1 | 0x40, 1
LIMIT = 1200
"""Time limit of the tests of one kind of server, in seconds."""


def namespaces() -> list[str]:
    """Return the command that runs another command in new namespaces.

    Raises:
        Missing: this machine does not allow it.
    """
    if not shutil.which("unshare"):
        raise environment.Missing("there is no unshare (util-linux) to make a network namespace with")
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    process = subprocess.run([*command, "true"], capture_output=True, text=True)
    if process.returncode:
        raise environment.Missing(f"namespaces are not allowed here: {process.stderr.strip()}")
    return command


def inside(actor: str, arguments: list[str]) -> int:
    """Start the loopback interface and run the tests; all other processes end with this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", UP_AND_RUNNING, b""))
    # Ray may still write to the folder; it ends with the namespace
    with tempfile.TemporaryDirectory(prefix="crosstime-ndif-", ignore_cleanup_errors=True) as work:
        variables = os.environ | {
            "CROSSTIME_NDIF_ACTOR": actor,
            "CROSSTIME_NDIF_WORK": work,
            "HF_ENDPOINT": stack.HUB,
            "HF_HOME": f"{work}/hub",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "*",
        }
        variables.pop("NDIF_API_KEY", None)
        tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(environment.HERE / "client.py")]
        return subprocess.run([*tests, *arguments], env=variables, cwd=environment.HERE.parents[1]).returncode


def main() -> int:
    """Install the packages, enter the namespaces, and run the tests."""
    if sys.argv[1:2] == ["--inside"]:
        return inside(sys.argv[2], sys.argv[3:])
    try:
        command = namespaces()
        environment.redis()
        environment.python()
    except environment.Missing as reason:
        print(f"NDIF tests skipped: {reason}", file=sys.stderr)
        return int(os.environ.get("CROSSTIME_NDIF_REQUIRED") == "1")
    command_inside = [*command, sys.executable, str(Path(__file__).resolve()), "--inside"]
    return max(within_limit([*command_inside, actor, *sys.argv[1:]]) for actor in stack.ACTORS)


def within_limit(command: list[str]) -> int:
    """Run a command and return its exit code; at the time limit, or with this process, end all its processes."""
    libc = ctypes.CDLL(None)
    try:
        # unshare ignores SIGTERM and the end of its parent; killing it ends its namespaces
        process = subprocess.run(
            command, timeout=LIMIT, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        )
        return abs(process.returncode)
    except subprocess.TimeoutExpired:
        print(f"NDIF tests ended: they took longer than {LIMIT} s", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

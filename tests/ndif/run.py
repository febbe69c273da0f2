"""Run the client's tests against a real NDIF server on this machine: `python tests/ndif/run.py [pytest arguments]`.

The server's packages are installed once, into a cache folder (1.7 GB; `CROSSTIME_NDIF_CACHE` says where). Server
and tests then run inside a network and process namespace of their own: nothing that listens can be reached from
outside, and nothing is left running. Where this machine has no namespaces, or the packages cannot be had, the tests
are skipped with the reason; with `CROSSTIME_NDIF_REQUIRED=1` that is a failure. What was measured is appended to the
file that `CROSSTIME_NDIF_FIGURES` names.
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
"""Seconds that the tests of one kind of server may take."""


def namespaces() -> list[str]:
    """The command that puts another one into namespaces of its own.

    Raises:
        Missing: this machine does not allow it.
    """
    if not shutil.which("unshare"):
        raise environment.Missing("there is no unshare (util-linux) to make a network namespace with")
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    done = subprocess.run([*command, "true"], capture_output=True, text=True)
    if done.returncode:
        raise environment.Missing(f"namespaces are not allowed here: {done.stderr.strip()}")
    return command


def inside(actor: str, arguments: list[str]) -> int:
    """Bring up loopback and run the tests against one kind of server; everything else ends with this process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", UP_AND_RUNNING, b""))
    # Ray may still be writing when all is done; it ends with the namespace.
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
    """Prepare, enter the namespaces, and run."""
    if sys.argv[1:2] == ["--inside"]:
        return inside(sys.argv[2], sys.argv[3:])
    try:
        command = namespaces()
        environment.redis()
        environment.python()
    except environment.Missing as reason:
        print(f"NDIF tests skipped: {reason}", file=sys.stderr)
        return int(os.environ.get("CROSSTIME_NDIF_REQUIRED") == "1")
    this = [*command, sys.executable, str(Path(__file__).resolve()), "--inside"]
    return max(within_limit([*this, actor, *sys.argv[1:]]) for actor in stack.ACTORS)


def within_limit(command: list[str]) -> int:
    """Run a command and give its exit code; past the limit, or with this process, end it and all that it started."""
    libc = ctypes.CDLL(None)
    try:
        # unshare heeds neither SIGTERM nor the death of its parent; when it is killed, its namespaces end.
        done = subprocess.run(command, timeout=LIMIT, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        return abs(done.returncode)
    except subprocess.TimeoutExpired:
        print(f"NDIF tests ended: they took longer than {LIMIT} s", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The server's own Python environment and Debian's Redis, made once in a cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "constraints.txt"
PACKAGES = (
    "torch", "nnsight", "transformers", "accelerate", "peft", "ray[default]", "redis", "fastapi", "uvicorn[standard]",
    "gunicorn", "python-multipart", "boto3", "click", "python-dotenv", "pyyaml", "zstandard", "numpy", "tokenizers",
    "moto[server]", "setuptools", "psutil",
)  # fmt: skip
NDIF = "ndif==0.1.2"
DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
"""Redis and the libraries of it that a small installation lacks."""


class Missing(Exception):
    """Something that this machine does not have; the tests are skipped with it as the reason."""


def folder() -> Path:
    """Where the environment is kept: `CROSSTIME_NDIF_CACHE`, else the user's cache folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("CROSSTIME_NDIF_CACHE", caches / "crosstime-ndif")).expanduser().resolve()


def python() -> Path:
    """The server's interpreter, with everything installed that `constraints.txt` pins.

    Raises:
        Missing: the packages cannot be had.
    """
    venv = folder() / "venv"
    stamp = venv / ".installed"
    wanted = hashlib.sha256(CONSTRAINTS.read_bytes() + repr((PACKAGES, NDIF)).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        venv.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += os.environ.get("PIP_FLAGS", "").split()
        for what in (["-c", str(CONSTRAINTS), *PACKAGES], ["--no-deps", "--ignore-requires-python", NDIF]):
            done = subprocess.run([*pip, *what], capture_output=True, text=True)
            if done.returncode:
                raise Missing(f"the server's packages cannot be installed: {_last_line(done.stderr)}")
        stamp.write_text(wanted)
    return venv / "bin" / "python"


def redis() -> tuple[Path, dict[str, str]]:
    """Redis' server and the environment that it needs: the installed one, else Debian's packages unpacked.

    Raises:
        Missing: neither is to be had.
    """
    if installed := shutil.which("redis-server"):
        return Path(installed), {}
    root = folder() / "debian"
    binary = root / "usr" / "bin" / "redis-server"
    if not binary.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Missing("there is no redis-server, and no apt-get to fetch Debian's")
        packages = root / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["apt-get", "download", *DEBIAN], cwd=packages, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"Debian's redis-server cannot be fetched: {_last_line(done.stderr)}")
        for package in sorted(packages.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    libraries = root / "usr" / "lib"
    paths = [str(path) for path in (libraries, *libraries.glob("*-linux-gnu"))]
    return binary, {"LD_LIBRARY_PATH": ":".join(paths)}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason was given"])[-1]

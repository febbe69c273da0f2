"""The server's Python environment and Debian's Redis, installed once into a cache folder."""

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
    "torch",
    "nnsight",
    "transformers",
    "accelerate",
    "peft",
    "ray[default]",
    "redis",
    "fastapi",
    "uvicorn[standard]",
    "gunicorn",
    "python-multipart",
    "boto3",
    "click",
    "python-dotenv",
    "pyyaml",
    "zstandard",
    "numpy",
    "tokenizers",
    "moto[server]",
    "setuptools",
    "psutil",
)
NDIF = "ndif==0.1.2"
DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
"""Redis, and its libraries that a minimal installation of Debian lacks."""


class Missing(Exception):
    """This machine lacks a requirement, which is the reason for which the tests are skipped."""


def folder() -> Path:
    """Return the folder of the environment: `CROSSTIME_NDIF_CACHE`, or one in the user's cache folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("CROSSTIME_NDIF_CACHE", caches / "crosstime-ndif")).expanduser().resolve()


def python() -> Path:
    """Return the server's interpreter, after installing the packages that `constraints.txt` pins.

    Raises:
        Missing: the packages cannot be installed.
    """
    venv = folder() / "venv"
    stamp = venv / ".installed"
    fingerprint = hashlib.sha256(CONSTRAINTS.read_bytes() + repr((PACKAGES, NDIF)).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != fingerprint:
        shutil.rmtree(venv, ignore_errors=True)
        venv.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += os.environ.get("PIP_FLAGS", "").split()
        for requirements in (["-c", str(CONSTRAINTS), *PACKAGES], ["--no-deps", "--ignore-requires-python", NDIF]):
            process = subprocess.run([*pip, *requirements], capture_output=True, text=True)
            if process.returncode:
                raise Missing(f"the server's packages cannot be installed: {_last_line(process.stderr)}")
        stamp.write_text(fingerprint)
    return venv / "bin" / "python"


def redis() -> tuple[Path, dict[str, str]]:
    """Return the Redis server and the environment variables that it needs: the installed one, or Debian's, unpacked.

    Raises:
        Missing: none is installed, and Debian's cannot be downloaded.
    """
    if installed := shutil.which("redis-server"):
        return Path(installed), {}
    root = folder() / "debian"
    binary = root / "usr" / "bin" / "redis-server"
    if not binary.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Missing("there is no redis-server, and no apt-get to download Debian's")
        packages = root / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        process = subprocess.run(["apt-get", "download", *DEBIAN], cwd=packages, capture_output=True, text=True)
        if process.returncode:
            raise Missing(f"Debian's redis-server cannot be downloaded: {_last_line(process.stderr)}")
        for package in sorted(packages.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    libraries = root / "usr" / "lib"
    paths = [str(path) for path in (libraries, *libraries.glob("*-linux-gnu"))]
    return binary, {"LD_LIBRARY_PATH": ":".join(paths)}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason was given"])[-1]

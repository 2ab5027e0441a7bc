"""Running programs, and waiting for what they bring about."""
from __future__ import annotations

import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("VECTORKEEP_CACHE") or pathlib.Path.home() / ".cache" / "vectorkeep")
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target")

Value = TypeVar("Value")


class CommandFailed(RuntimeError):
    """A program ended with an error; the message has its last output."""


def run(*command: object, stdin: str | None = None, timeout: float = 600) -> str:
    """Runs a program to its end and returns its standard output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def wait_for(what: str, probe: Callable[[], Value | None], seconds: float = 120, every: float = 0.5) -> Value:
    """The first truthy result of `probe`. What it raises meanwhile is part of the error when time is up."""
    deadline = time.monotonic() + seconds
    last: object = "never true"
    while time.monotonic() < deadline:
        try:
            value = probe()
            if value:
                return value
            last = f"last result {value!r}"
        except Exception as error:  # the probe may fail in any way until it succeeds
            last = error
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s ({last})")


def program(name: str) -> pathlib.Path:
    """One of our binaries, as `make build` made it."""
    path = TARGET / "debug" / name
    if not path.exists():
        raise CommandFailed(f"{path} is missing: run `make build` first")
    return path

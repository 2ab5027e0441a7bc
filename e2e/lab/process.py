"""Starts the lab's processes, remembers them, and ends them and nothing else.

A process is known by its id *and* its start time, since ids are reused. Every process also
carries a mark in its environment, so that one whose record was never written (because `up`
was killed at that moment) is still found.
"""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time

from .errors import LabError
from .layout import Layout

MARK = "VECTORKEEP_LAB_OWNER"
GRACE_SECONDS = 5.0


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name is in parentheses and may hold spaces; the state follows it.
    fields = stat[stat.rindex(")") + 2:].split()
    return None if fields[0] in "ZX" else int(fields[19])


def mark_of(layout: Layout) -> str:
    """The value of the mark for the lab in this state folder."""
    return str(layout.root)


def marked(layout: Layout) -> list[int]:
    """Ids of all processes that carry this lab's mark."""
    wanted = f"{MARK}={mark_of(layout)}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                environment = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry))
    return found


def end(pids: list[int], *, grace: float = GRACE_SECONDS) -> None:
    """Asks the processes to end, kills those that don't within `grace` seconds, waits for all."""
    known = {pid: started for pid in pids if (started := start_time(pid)) is not None}

    def alive() -> list[int]:
        return [pid for pid, started in known.items() if start_time(pid) == started]

    if grace > 0:
        _signal(alive(), signal.SIGTERM)
        _wait_until(lambda: not alive(), grace)
    _signal(alive(), signal.SIGKILL)
    _wait_until(lambda: not alive(), 10)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Processes:
    """The processes of one lab."""

    def __init__(self, layout: Layout):
        self._layout = layout

    def _record(self, name: str) -> pathlib.Path:
        return self._layout.run / f"{name}.json"

    def log(self, name: str) -> pathlib.Path:
        """The file that the process writes to."""
        return self._layout.logs / f"{name}.log"

    def names(self) -> list[str]:
        """All recorded processes, running or not."""
        return sorted(path.stem for path in self._layout.run.glob("*.json"))

    def pid(self, name: str) -> int | None:
        """The id of the running process of that name."""
        try:
            record = json.loads(self._record(name).read_text())
        except (OSError, ValueError):
            return None
        return record["pid"] if start_time(record["pid"]) == record["started"] else None

    def ensure(self, name: str, argv: list[str], *, inputs: tuple[pathlib.Path, ...] = (),
               namespace: pathlib.Path | None = None, environment: dict[str, str] | None = None) -> bool:
        """Starts the process unless it runs already with the same command and files.

        `inputs` are files that the process reads once, at its start. Returns whether it was started.
        """
        if namespace is not None:
            # nsenter, not `ip netns exec`: the latter hides the cgroup mounts from the kubelet.
            argv = ["nsenter", f"--net={namespace}", *argv]
        fingerprint = _fingerprint(argv, inputs)
        running = self.pid(name)
        if running is not None:
            if json.loads(self._record(name).read_text())["fingerprint"] == fingerprint:
                return False
            end([running], grace=1.0)
        self._layout.run.mkdir(parents=True, exist_ok=True)
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**(environment if environment is not None else default_environment()),
                     MARK: mark_of(self._layout)})
        record = {"pid": process.pid, "started": start_time(process.pid), "fingerprint": fingerprint}
        partial = self._record(name).with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.replace(self._record(name))
        # The process outlives this program: Popen must not wait for it, nor complain.
        process.returncode = 0
        return True

    def stop(self, name: str, *, grace: float = GRACE_SECONDS) -> None:
        """Ends the process, if it runs, and forgets it."""
        running = self.pid(name)
        if running is not None:
            end([running], grace=grace)
        self._record(name).unlink(missing_ok=True)

    def require(self, name: str) -> None:
        """Fails with the end of the log if the process has ended."""
        if self.pid(name) is None:
            raise LabError(f"{name} has ended; the last lines of {self.log(name)}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines that the process wrote."""
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


def default_environment() -> dict[str, str]:
    """What a process gets to see of the caller's environment: where to find programs, no more."""
    path = os.environ.get("PATH", "")
    return {"PATH": f"{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def _fingerprint(argv: list[str], inputs: tuple[pathlib.Path, ...]) -> str:
    digest = hashlib.sha256(json.dumps(argv).encode())
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()

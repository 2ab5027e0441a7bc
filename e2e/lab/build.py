"""Builds the lab's programs once, into a cache outside the checkout.

Each group of programs lands in its own folder, named by a hash of everything it is built from,
so that a changed pin builds anew and an unchanged one costs nothing.
"""
from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import time

from .errors import LabError
from .versions import DEBIAN_PACKAGES, GROUPS, Group

PROGRESS_EVERY_SECONDS = 20


def cache_root() -> pathlib.Path:
    """Where built programs and images are kept between runs and checkouts."""
    base = os.environ.get("VECTORKEEP_CACHE") or pathlib.Path.home() / ".cache" / "vectorkeep"
    return pathlib.Path(base) / "lab"


def go_environment() -> dict[str, str]:
    """The variables that decide what `go build` produces."""
    return {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -trimpath", "GOWORK": "off"}


@functools.cache
def _go_version() -> str:
    if not shutil.which("go"):
        raise LabError("the Go toolchain is missing: install Go 1.26 or newer and put `go` in PATH")
    return subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout.strip()


def build_environment() -> dict[str, str]:
    """The environment of a build. The compiler collects its garbage less often, which costs memory, saves a seventh of the
    processor's time, and changes nothing in what is built."""
    return {"GOGC": "400", **os.environ, **go_environment()}


def inputs_hash(group: Group, go_version: str) -> str:
    """Hash of all that decides the group's output: sources, pins, flags, toolchain."""
    digest = hashlib.sha256()
    for part in (go_version, repr(sorted(go_environment().items())), repr(group.ldflags),
                 repr(sorted(group.programs.items())), repr(sorted(group.tests.items()))):
        digest.update(part.encode() + b"\0")
    for path in sorted(group.folder.rglob("*")):
        if path.is_file() and not path.name.endswith("_test.go"):
            digest.update(str(path.relative_to(group.folder)).encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _run_with_progress(command: list[str], folder: pathlib.Path, label: str) -> None:
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=build_environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = ""
    while True:
        try:
            output, _ = process.communicate(timeout=PROGRESS_EVERY_SECONDS)
            break
        except subprocess.TimeoutExpired:
            print(f"  {label}: {time.monotonic() - started:.0f} s", flush=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        raise LabError(f"{label}: {' '.join(command[:3])} failed:\n{output[-4000:]}")


def build_group(name: str) -> pathlib.Path:
    """Builds one group unless the cache has it; returns the folder of its programs."""
    group = GROUPS[name]
    target = cache_root() / "bin" / f"{group.name}-{inputs_hash(group, _go_version())}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{group.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        print(f"building {group.name}: {', '.join([*group.programs, *group.tests])} "
              f"(about {group.expected} on two cores)", flush=True)
        started = time.monotonic()
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        flags = ["-ldflags", " ".join(group.ldflags)]
        _build_programs(group, flags, partial)
        for program, package in group.tests.items():
            _run_with_progress(["go", "test", "-c", *flags, "-o", str(partial / program), package],
                               group.folder, program)
        partial.rename(target)
        print(f"built {group.name} in {time.monotonic() - started:.0f} s", flush=True)
    return target


def _build_programs(group: Group, flags: list[str], folder: pathlib.Path) -> None:
    # One `go build` for all programs shares the loading of packages and links them side by side.
    if len(group.programs) == 1:
        (program, package), = group.programs.items()
        _run_with_progress(["go", "build", *flags, "-o", str(folder / program), package], group.folder, group.name)
        return
    _run_with_progress(["go", "build", *flags, "-o", f"{folder}/", *group.programs.values()],
                       group.folder, group.name)
    missing = [program for program in group.programs if not (folder / program).is_file()]
    if missing:
        raise LabError(f"{group.name}: go build made no {', '.join(missing)}")


def ensure_debian_packages() -> None:
    """Installs the Debian packages whose programs or files are missing."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for wanted, package in DEBIAN_PACKAGES.items()
                      if not (os.path.exists(wanted) if wanted.startswith("/") else shutil.which(wanted, path=search))})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(f"these Debian packages are missing: {' '.join(missing)}: install them and try again")
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"],
                    ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")


class Programs:
    """Finds a built program by name."""

    def __init__(self, groups: tuple[str, ...]):
        self._folders = {name: build_group(name) for name in groups}

    def path(self, program: str) -> str:
        """Absolute path of a program of one of the groups."""
        for name, folder in self._folders.items():
            if program in GROUPS[name].programs or program in GROUPS[name].tests:
                return str(folder / program)
        raise LookupError(f"{program} belongs to none of {', '.join(self._folders)}")

    def folder(self, group: str) -> pathlib.Path:
        """The folder that holds a group's programs."""
        return self._folders[group]

    def link_into(self, folder: pathlib.Path) -> None:
        """Makes `folder` a directory of symbolic links to every program, for use in PATH."""
        folder.mkdir(parents=True, exist_ok=True)
        for source in self._folders.values():
            for program in source.iterdir():
                link = folder / program.name
                fresh = folder / f".{program.name}.{os.getpid()}"
                fresh.symlink_to(program)
                fresh.replace(link)

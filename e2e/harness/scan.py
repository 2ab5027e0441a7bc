"""Looking for plaintext where none may be: process memory, volumes, logs, objects."""
from __future__ import annotations

import base64
import os
import pathlib
import re
from collections.abc import Iterable

from .cluster import Cluster
from .shell import CommandFailed

CHUNK = 16 * 1024 * 1024
# Where an engine finds its configuration and its volume (operator/src/plan/config_map.rs).
CONFIG = "etc/vectorkeep/config/engine.toml"
VOLUME = "var/lib/vectorkeep"
# What the operator made.
OPERATORS = "app.kubernetes.io/managed-by=vectorkeep-operator"
# Shorter ends of keys may stand in any text.
SHORTEST = 16


def engine_processes() -> list[int]:
    """Engine processes in the pods of this machine: those in a network namespace other than ours."""
    ours = os.stat("/proc/self/ns/net").st_ino
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")[0]
            if command.endswith(b"vectorkeep-engine") and os.stat(entry / "ns/net").st_ino != ours:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def in_memory(pids: Iterable[int], canaries: Iterable[str]) -> int:
    """How many canaries the readable memory of the processes holds."""
    wanted = {canary.encode() for canary in canaries}
    seen: set[bytes] = set()
    for pid in pids:
        try:
            maps = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                span, flags, *_ = line.split()
                if "r" in flags and "[vvar" not in line and "[vsyscall]" not in line:
                    start, end = (int(part, 16) for part in span.split("-"))
                    seen |= _in_range(memory, start, end, wanted - seen)
    return len(seen)


def _in_range(memory, start: int, end: int, wanted: set[bytes]) -> set[bytes]:
    overlap = max((len(canary) for canary in wanted), default=1)
    found, tail = set(), b""
    while start < end and wanted:
        try:
            memory.seek(start)
            block = memory.read(min(CHUNK, end - start))
        except (OSError, ValueError, OverflowError):
            return found
        if not block:
            return found
        text = tail + block
        found |= {canary for canary in wanted if canary in text}
        tail = text[-overlap:]
        start += len(block)
    return found


def in_files(folder: pathlib.Path, canaries: Iterable[str]) -> int:
    """How many canaries the files below a folder hold, in their contents or names. Where there are no files, that none is
    found says nothing, and is an error."""
    wanted = {canary.encode() for canary in canaries}
    seen: set[bytes] = set()
    files = 0
    for path in folder.rglob("*"):
        text = str(path.relative_to(folder)).encode()
        if path.is_file():
            text += b"\0" + path.read_bytes()
            files += 1
        seen |= {canary for canary in wanted if canary in text}
    if not files:
        raise LookupError(f"there are no files in {folder}")
    return len(seen)


def in_text(text: str, canaries: Iterable[str]) -> int:
    """How many canaries a text holds."""
    return sum(canary in text for canary in set(canaries))


def volume_folder(cluster_id: str) -> pathlib.Path:
    """The volume of a cluster, as its engine on this machine sees it."""
    for pid in engine_processes():
        root = pathlib.Path(f"/proc/{pid}/root")
        try:
            configuration = (root / CONFIG).read_text()
        except OSError:  # it ended meanwhile
            continue
        if f'"{cluster_id}"' in configuration:
            return root / VOLUME
    raise LookupError(f"no engine of {cluster_id} runs on this machine")


def pod_logs(cluster: Cluster, namespace: str, selector: str) -> str:
    """Logs of the pods, of containers that ended before them too. What has not started has none."""
    text = ""
    for pod in cluster.get("-n", namespace, "pods", "-l", selector)["items"]:
        for container in pod["status"].get("containerStatuses", []):
            if "terminated" in container.get("lastState", {}):
                text += _container_logs(cluster, pod, container["name"], "--previous")
            if container["state"].keys() & {"running", "terminated"}:
                text += _container_logs(cluster, pod, container["name"])
    return text


def _container_logs(cluster: Cluster, pod: dict, container: str, *options: str) -> str:
    name, space = pod["metadata"]["name"], ("-n", pod["metadata"]["namespace"])
    try:
        return cluster.kubectl(*space, "logs", name, "-c", container, "--tail=-1", *options)
    except CommandFailed:
        fields = "jsonpath={.metadata.uid} {.metadata.deletionTimestamp}"
        now = cluster.kubectl(*space, "get", "pod", name, "--ignore-not-found", "-o", fields).split()
        if now == [pod["metadata"]["uid"]]:
            raise
        return ""  # a pod that goes takes its logs with it


def private_values(cluster: Cluster) -> set[str]:
    """What nobody may read but in the operator's own secrets and in connection secrets: passwords and private keys, as a
    secret has them, and line by line. The first and the last line of a PEM text are no secret."""
    values: set[str] = set()
    for secret in cluster.get("secrets", "-A", "-l", OPERATORS)["items"]:
        for name, stored in secret.get("data", {}).items():
            if name in ("password", "key") or name.endswith(".key"):
                lines = base64.b64decode(stored).decode(errors="replace").splitlines()
                values |= {stored, *(line for line in lines if not line.startswith("-----"))}
    return {value for value in values if len(value) >= SHORTEST}


def all_objects(cluster: Cluster) -> str:
    """Every object of the cluster that can be listed, as text. Connection and root password secrets are left out: the
    password is theirs to hold."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    texts = []
    for kind in kinds:
        if kind != "secrets":
            texts.append(cluster.kubectl("get", kind, "-A", "-o", "yaml", "--ignore-not-found"))
    return "\n".join(texts)


UNEXPECTED = re.compile(r'"level":"ERROR"|\bpanicked\b|SIGSEGV|stack backtrace')


def unexpected_errors(text: str, allowed: Iterable[str] = ()) -> list[str]:
    """Lines of a log that tell of an error that nobody expected."""
    allowed = tuple(allowed)
    return [line for line in text.splitlines() if UNEXPECTED.search(line) and not any(word in line for word in allowed)]

"""Assembles OCI image archives: the same input gives the same bytes, so digests are stable.

An image holds a program, the shared libraries that it names, CA certificates, and a user; no shell
and no package tools. The libraries come from the Debian packages of this machine, and the image
says which (in the place where scanners look for it).
"""
from __future__ import annotations

import hashlib
import io
import json
import pathlib
import re
import subprocess
import tarfile
from dataclasses import dataclass, field

from .errors import LabError

USER = 65532
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Entry:
    """One file, folder or symbolic link of a layer."""

    mode: int
    content: bytes | None = None
    target: str | None = None
    owner: int = 0


@dataclass
class Image:
    """What goes into an image."""

    name: str
    entrypoint: list[str]
    user: int = USER
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)

    def add_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Adds a regular file and the folders above it."""
        self._add(path, Entry(mode, content=content))

    def add_link(self, path: str, target: str) -> None:
        """Adds a symbolic link."""
        self._add(path, Entry(0o777, target=target))

    def add_folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Adds a folder."""
        self._add(path, Entry(mode, owner=owner))

    def _add(self, path: str, entry: Entry) -> None:
        path = path.strip("/")
        for above in pathlib.PurePosixPath(path).parents:
            if str(above) != ".":
                self.entries.setdefault(str(above), Entry(0o755))
        self.entries[path] = entry

    def add_base(self) -> None:
        """Adds what any program expects: a user, name resolution by DNS, CA certificates, /tmp."""
        passwd = f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n"
        self.add_file("/etc/passwd", passwd.encode())
        self.add_file("/etc/group", f"root:x:0:\nnonroot:x:{USER}:\n".encode())
        self.add_file("/etc/nsswitch.conf", b"hosts: files dns\n")
        self.add_folder("/tmp", 0o1777)
        bundle = pathlib.Path(CA_BUNDLE)
        if not bundle.exists():
            raise LabError(f"{CA_BUNDLE} is missing: install the Debian package ca-certificates")
        self.add_file(CA_BUNDLE, bundle.read_bytes())

    def add_program(self, binary: pathlib.Path, path: str) -> None:
        """Adds a program and the shared libraries that it needs."""
        self.add_file(path, binary.read_bytes(), 0o755)
        libraries = shared_libraries(binary)
        for library in libraries:
            self.add_file(library, pathlib.Path(library).resolve().read_bytes(), 0o755)
        for package, status in sorted(debian_status(libraries).items()):
            self.add_file(f"/var/lib/dpkg/status.d/{package}", status.encode())

    def layer(self) -> bytes:
        """The layer as a tar archive with sorted entries and no times."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path, entry in sorted(self.entries.items()):
                archive.addfile(*_member(path, entry))
        return buffer.getvalue()


def _member(path: str, entry: Entry) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    member = tarfile.TarInfo(path)
    member.mode, member.uid, member.gid = entry.mode, entry.owner, entry.owner
    if entry.target is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
        return member, None
    if entry.content is None:
        member.type = tarfile.DIRTYPE
        return member, None
    member.size = len(entry.content)
    return member, io.BytesIO(entry.content)


def shared_libraries(binary: pathlib.Path) -> list[str]:
    """The files that the dynamic linker would load for the program, itself included; none if it's static."""
    done = subprocess.run(["ldd", str(binary)], capture_output=True, text=True)
    if done.returncode != 0:
        if "not a dynamic executable" in done.stderr + done.stdout:
            return []
        raise LabError(f"ldd {binary} failed: {done.stderr.strip()}")
    return parse_ldd(done.stdout, binary)


def parse_ldd(output: str, binary: pathlib.Path) -> list[str]:
    """Reads the output of ldd."""
    found = []
    for line in output.splitlines():
        if "not found" in line:
            raise LabError(f"{binary} needs a library that is not on this machine: {line.strip()}")
        match = re.match(r"\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)", line)
        if match:
            found.append(match.group(1))
    return sorted(set(found))


def debian_status(libraries: list[str]) -> dict[str, str]:
    """The package database's entries of the packages that own the libraries."""
    packages = set()
    for library in libraries:
        for candidate in (library, str(pathlib.Path(library).resolve()), f"/usr{library}"):
            done = subprocess.run(["dpkg-query", "--search", candidate], capture_output=True, text=True)
            if done.returncode == 0:
                packages.add(done.stdout.split(":")[0])
                break
    return {package: subprocess.run(["dpkg-query", "--status", package], check=True, capture_output=True,
                                    text=True).stdout for package in packages}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_archive(image: Image, path: pathlib.Path) -> str:
    """Writes the image as an OCI archive; returns the digest of its manifest."""
    layer = image.layer()
    config = _json({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "User": f"{image.user}:{image.user}",
            "WorkingDir": "/",
            "Env": [f"PATH={SEARCH_PATH}", *(f"{key}={value}" for key, value in sorted(image.environment.items()))],
            "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    })
    manifest = _json({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
    descriptor = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    descriptor["annotations"] = {"io.containerd.image.name": image.name}
    index = _json({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                   "manifests": [descriptor]})
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    for blob in (layer, config, manifest):
        files["blobs/sha256/" + _digest(blob).removeprefix("sha256:")] = blob
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with tarfile.open(partial, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            archive.addfile(*_member(name, Entry(0o644, content=content)))
    partial.replace(path)
    return _digest(manifest)


def _descriptor(media_type: str, content: bytes) -> dict:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def read_reference(path: pathlib.Path) -> tuple[str, str]:
    """The name and the manifest's digest of the image in an archive."""
    try:
        with tarfile.open(path) as archive:
            index = json.load(archive.extractfile("index.json"))
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        raise LabError(f"{path} is no OCI archive: {error}") from error
    manifests = index.get("manifests", [])
    if len(manifests) != 1 or "io.containerd.image.name" not in manifests[0].get("annotations", {}):
        raise LabError(f"{path} must hold exactly one image with a name (annotation io.containerd.image.name)")
    return manifests[0]["annotations"]["io.containerd.image.name"], manifests[0]["digest"]


def repository(name: str) -> str:
    """The reference without its tag: `host:5000/a/b:1` gives `host:5000/a/b`."""
    head, separator, tail = name.rpartition(":")
    return head if separator and "/" not in tail else name

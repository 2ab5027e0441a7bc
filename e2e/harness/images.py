"""Our images: built by the lab's assembler from our binaries, referred to by digest."""
from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass

from ..lab import oci
from ..lab.images import probe_image
from .cluster import LAB, Archive, Cluster
from .shell import CACHE, CommandFailed, program, run

# Where an existing cluster finds the images. The domain that is used without it is reserved (RFC 2606): no registry can
# answer to it, so a node can only use what was loaded into it.
REGISTRY = os.environ.get("VECTORKEEP_REGISTRY") or "vectorkeep.invalid"
# Where every engine image has its program.
ENGINE = "/vectorkeep-engine"
# The operator's program likewise.
OPERATOR = "/vectorkeep-operator"


@dataclass(frozen=True)
class Images:
    """References by digest."""

    operator: str
    engine: str
    kms: str
    probe: str


def build_and_load(cluster: Cluster) -> Images:
    """Assembles the images and brings them into the cluster."""
    made = {
        "operator": _program("operator", "vectorkeep-operator"),
        "engine": _program("engine", "vectorkeep-engine"),
        "kms": _program("kms-sim", "vectorkeep-kms-sim"),
        "probe": _probe(),
    }
    # All are made before the first is loaded: who has to push them by hand finds them side by side.
    return Images(**{part: _load(cluster, image) for part, image in made.items()})


def next_operator(cluster: Cluster) -> str:
    """The operator's next version: a build of its own that renders other pods."""
    return _image(cluster, "operator-next", "examples/next_operator", "--path", OPERATOR)


def next_patch(cluster: Cluster) -> str:
    """The engine's next patch release: a build of its own that reports a higher version."""
    return _image(cluster, "engine-next", "examples/next_patch", "--path", ENGINE)


def crashing(cluster: Cluster) -> str:
    """A release whose program ends at once."""
    return _image(cluster, "engine-crashing", "/usr/bin/false")


def mislabelled(cluster: Cluster) -> str:
    """A release that starts and serves, but is not the version that it is offered as: the next patch, in another image."""
    other = ("--file", "/etc/mislabelled=/etc/debian_version")
    return _image(cluster, "engine-mislabelled", "examples/next_patch", "--path", ENGINE, *other)


def cert_manager(cluster: Cluster) -> str:
    """cert-manager's controllers, as the lab builds them."""
    built = CACHE / "lab" / "current" / "cert-manager"
    if not built.exists():
        raise CommandFailed(f"{built} is missing: run `e2e/lab/lab build --for tests` first")
    return _image(cluster, "cert-manager", str(built))


def _image(cluster: Cluster, name: str, binary: str, *options: str) -> str:
    return _load(cluster, _program(name, binary, *options))


def _program(name: str, binary: str, *options: str) -> Archive:
    """An image of one program."""
    path, tagged = _place(name)
    printed = run(LAB, "image", "--name", tagged, "--binary", program(binary), "--out", path, *options)
    return Archive(path, tagged, printed.split()[-1])


def _probe() -> Archive:
    """A shell with the usual small tools, for pods that try whom they reach."""
    path, tagged = _place("probe")
    image = probe_image()
    image.name = tagged
    return Archive(path, tagged, oci.write_archive(image, path))


def _place(name: str) -> tuple[pathlib.Path, str]:
    """Where an image's archive goes, and what the image is called."""
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.tar", f"{REGISTRY}/{name}:dev"


def _load(cluster: Cluster, image: Archive) -> str:
    if os.environ.get("VECTORKEEP_IMAGES_LOADED") != "1":
        cluster.load(image)
    return image.by_digest

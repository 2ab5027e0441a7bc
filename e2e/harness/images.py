"""Our images: built by the lab's assembler from our binaries, referred to by digest."""
from __future__ import annotations

import os
from dataclasses import dataclass

from .cluster import LAB, Cluster
from .shell import CACHE, CommandFailed, program, run

# The domain is reserved (RFC 2606): no registry can answer to it, so a node can only use what was loaded into it.
REGISTRY = "vectorkeep.invalid"
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
    probe: str = "lab.invalid/probe:1"


def build_and_load(cluster: Cluster) -> Images:
    """Assembles the images and brings them into the cluster."""
    return Images(
        operator=_image(cluster, "operator", "vectorkeep-operator"),
        engine=_image(cluster, "engine", "vectorkeep-engine"),
        kms=_image(cluster, "kms-sim", "vectorkeep-kms-sim"),
    )


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
    archive = CACHE / "images" / f"{name}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    repository = f"{REGISTRY}/{name}"
    digest = run(LAB, "image", "--name", f"{repository}:dev", "--binary", program(binary), "--out", archive, *options).split()[-1]
    if os.environ.get("VECTORKEEP_IMAGES_LOADED") != "1":
        cluster.load(archive)
    return f"{repository}@{digest}"

"""Our images: built by the lab's assembler from our binaries, referred to by digest."""
from __future__ import annotations

import os
from dataclasses import dataclass

from .cluster import LAB, Cluster
from .shell import CACHE, program, run

# The domain is reserved (RFC 2606): no registry can answer to it, so a node can only use what was loaded into it.
REGISTRY = "vectorkeep.invalid"


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


def _image(cluster: Cluster, name: str, binary: str) -> str:
    archive = CACHE / "images" / f"{name}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    repository = f"{REGISTRY}/{name}"
    digest = run(LAB, "image", "--name", f"{repository}:dev", "--binary", program(binary), "--out", archive).split()[-1]
    if os.environ.get("VECTORKEEP_IMAGES_LOADED") != "1":
        cluster.load(archive)
    return f"{repository}@{digest}"

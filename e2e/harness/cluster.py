"""The cluster that everything runs on: the lab, kind, or any running one.

`VECTORKEEP_CLUSTER` chooses: `lab`, `kind`, or `existing` (the cluster of `KUBECONFIG`). Without it, kind where a Docker
engine runs and kind is installed, else the lab. As a program it builds what the chosen one needs, or takes it down.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from .shell import CACHE, ROOT, CommandFailed, run

LAB = ROOT / "e2e" / "lab" / "lab"
KIND_NAME = "vectorkeep"
KIND_KUBECONFIG = CACHE / "kind-kubeconfig"
CLIENTS = ("kubectl", "helm")


@dataclass(frozen=True)
class Archive:
    """An image on this machine."""

    path: pathlib.Path
    # With a tag.
    name: str
    digest: str

    @property
    def by_digest(self) -> str:
        """The reference by which pods use it."""
        return f"{self.name.rpartition(':')[0]}@{self.digest}"


@dataclass
class Cluster:
    """A running cluster and the programs to use it with."""

    kind: str
    kubeconfig: pathlib.Path
    environment: dict[str, str] = field(default_factory=dict)

    def tool(self, name: str) -> str:
        """Path of `kubectl` or `helm`: the lab's own build, or the one that is installed."""
        built = CACHE / "lab" / "current" / name
        found = str(built) if built.exists() else shutil.which(name)
        if not found:
            raise CommandFailed(f"{name} is missing: run `make cluster`, or install it")
        return found

    def kubectl(self, *arguments: object, stdin: str | None = None, timeout: float = 300) -> str:
        """Runs kubectl against the cluster."""
        return run(self.tool("kubectl"), "--kubeconfig", self.kubeconfig, *arguments, stdin=stdin, timeout=timeout)

    def helm(self, *arguments: object, timeout: float = 300) -> str:
        """Runs Helm against the cluster."""
        return run(self.tool("helm"), "--kubeconfig", self.kubeconfig, *arguments, timeout=timeout)

    def get(self, *arguments: object) -> dict:
        """One object or a list of them."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def exists(self, *arguments: object) -> bool:
        """Whether an object is there."""
        return bool(self.kubectl("get", *arguments, "--ignore-not-found", "-o", "name").strip())

    def apply(self, *objects: dict) -> None:
        """Applies objects."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def load(self, image: Archive) -> None:
        """Brings an image into the cluster's nodes, under its name and its name by digest."""
        match self.kind:
            case "lab":
                run(LAB, "image-load", image.path)
            case "kind":
                run("kind", "load", "image-archive", image.path, "--name", KIND_NAME)
                # An import loses the name by digest.
                tag = ("ctr", "-n", "k8s.io", "images", "tag", "--force", image.name, image.by_digest)
                for node in run("kind", "get", "nodes", "--name", KIND_NAME).split():
                    run("docker", "exec", node, *tag)
            case _:
                raise CommandFailed(
                    "an existing cluster takes its images from a registry: set VECTORKEEP_REGISTRY to where they go there "
                    f"(HOST/PATH), run this again, push the archives in {image.path.parent} under the names that they hold, "
                    "digests unchanged, and set VECTORKEEP_IMAGES_LOADED=1"
                )

    def issuer(self) -> tuple[str, dict]:
        """The issuer of service account tokens and its public keys."""
        configuration = json.loads(self.kubectl("get", "--raw", "/.well-known/openid-configuration"))
        return configuration["issuer"], json.loads(self.kubectl("get", "--raw", "/openid/v1/jwks"))


def choose() -> str:
    """The kind of cluster to use."""
    chosen = os.environ.get("VECTORKEEP_CLUSTER")
    if chosen:
        if chosen not in ("lab", "kind", "existing"):
            raise CommandFailed(f"VECTORKEEP_CLUSTER={chosen}: use lab, kind or existing")
        if chosen == "kind" and not shutil.which("kind"):
            raise CommandFailed("VECTORKEEP_CLUSTER=kind: kind is missing, install it")
        return chosen
    docker = shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    return "kind" if docker and shutil.which("kind") else "lab"


def start() -> Cluster:
    """Starts the chosen cluster, or takes the running one."""
    kind = choose()
    if kind == "lab":
        run(LAB, "up")
        return Cluster(kind, pathlib.Path(run(LAB, "kubeconfig").strip()))
    if kind == "kind":
        if KIND_NAME not in run("kind", "get", "clusters").split():
            run("kind", "create", "cluster", "--name", KIND_NAME, "--config", ROOT / "kind-config.yaml")
        KIND_KUBECONFIG.touch(mode=0o600)  # an administrator's credentials
        KIND_KUBECONFIG.write_text(run("kind", "get", "kubeconfig", "--name", KIND_NAME))
        return Cluster(kind, KIND_KUBECONFIG)
    if not os.environ.get("KUBECONFIG"):
        raise CommandFailed("VECTORKEEP_CLUSTER=existing needs KUBECONFIG")
    return Cluster(kind, pathlib.Path(os.environ["KUBECONFIG"]))


def build() -> None:
    """Builds what the chosen cluster needs on this machine; beside kind or a running one that is at most the clients."""
    lab = choose() == "lab"
    if lab or not all(map(shutil.which, CLIENTS)):
        subprocess.run([LAB, "build", "--for", "cluster" if lab else "clients"], check=True)


def take_down() -> None:
    """Takes the chosen cluster down, unless it is somebody else's."""
    match choose():
        case "lab":
            subprocess.run([LAB, "down"], check=True)
        case "kind":
            subprocess.run(["kind", "delete", "cluster", "--name", KIND_NAME], check=True)
            KIND_KUBECONFIG.unlink(missing_ok=True)
        case _:
            raise CommandFailed("VECTORKEEP_CLUSTER=existing: that cluster is not ours to take down")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    commands.add_parser("build", help=build.__doc__).set_defaults(action=build)
    commands.add_parser("down", help=take_down.__doc__).set_defaults(action=take_down)
    try:
        parser.parse_args().action()
    except CommandFailed as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has said why


if __name__ == "__main__":
    main()

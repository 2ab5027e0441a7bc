"""Where everything of one lab lies, and which addresses it uses."""
from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass

DEFAULT_STATE = "/var/lib/vectorkeep-lab"
DEFAULT_CONTROL_PLANE_STATE = "/var/lib/vectorkeep-control-plane"

# 198.18.0.0/15 is set aside for tests between networks (RFC 2544): no real host has such an address.
NODE_RANGE = "198.18.0.0/24"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
METADATA_ADDRESS = "169.254.169.254"
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443

BRIDGE = "vklab0"
METADATA_INTERFACE = "vklabmeta"
FIRST_NODE = "node-1"


def state_folder(chosen: str | None) -> pathlib.Path:
    """The lab's folder: the switch, else the environment, else the default."""
    return pathlib.Path(chosen or os.environ.get("VECTORKEEP_LAB_STATE") or DEFAULT_STATE).resolve()


@dataclass(frozen=True)
class Node:
    """One node: the first lives in the machine's own network, others in a namespace each."""

    name: str
    index: int

    @property
    def address(self) -> str:
        return f"198.18.0.{self.index}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def pod_gateway(self) -> str:
        return f"10.244.{self.index}.1"

    @property
    def in_namespace(self) -> bool:
        return self.index > 1

    @property
    def cgroup(self) -> str:
        return f"vklab-{self.name}"

    @property
    def link(self) -> str:
        """The bridge's end of the node's cable."""
        return f"vklab-n{self.index}"


@dataclass(frozen=True)
class Layout:
    """Paths inside one state folder."""

    root: pathlib.Path

    @property
    def run(self) -> pathlib.Path:
        return self.root / "run"

    @property
    def logs(self) -> pathlib.Path:
        return self.root / "logs"

    @property
    def bin(self) -> pathlib.Path:
        return self.root / "bin"

    @property
    def pki(self) -> pathlib.Path:
        return self.root / "pki"

    @property
    def issuer(self) -> pathlib.Path:
        return self.root / "issuer"

    @property
    def manifests(self) -> pathlib.Path:
        return self.root / "manifests"

    @property
    def nodes(self) -> pathlib.Path:
        return self.root / "nodes"

    @property
    def kubeconfig(self) -> pathlib.Path:
        return self.root / "kubeconfig"

    @property
    def journal(self) -> pathlib.Path:
        return self.root / "journal.json"

    def node(self, node: Node) -> pathlib.Path:
        """The folder of one node."""
        return self.nodes / node.name

    def containerd_socket(self, node: Node) -> pathlib.Path:
        return self.node(node) / "containerd.sock"

    def network_namespace(self, node: Node) -> pathlib.Path:
        """The file that a further node's network namespace is mounted on."""
        return self.node(node) / "netns"

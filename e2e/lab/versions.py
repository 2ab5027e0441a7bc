"""What the lab is made of.

The versions themselves stand in go/NAME/go.mod, one Go module per upstream project, because
their dependencies conflict. This file says which programs come out of which module.
"""
from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass, field

GO_MODULES = pathlib.Path(__file__).resolve().parent / "go"

# Program (or file) on this machine -> Debian package that brings it.
DEBIAN_PACKAGES = {
    "nft": "nftables",
    "runc": "runc",
    "busybox": "busybox-static",
    "ethtool": "ethtool",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}


@dataclass(frozen=True)
class Group:
    """Programs that are built together by one `go build` in one module."""

    name: str
    module: str
    programs: dict[str, str]
    expected: str
    ldflags: tuple[str, ...] = ("-s", "-w")
    tests: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> pathlib.Path:
        return GO_MODULES / self.module


def required_version(module: str, path: str) -> str:
    """The version of `path` that go/`module`/go.mod requires."""
    text = (GO_MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise LookupError(f"go/{module}/go.mod requires no {path}")
    return found.group(1)


def kubernetes_ldflags(version: str) -> tuple[str, ...]:
    """Linker flags that make the programs report their version; Helm refuses a cluster of v0.0.0."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "module",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = tuple(f"-X={package}.{key}={value}" for package in packages for key, value in values.items())
    return ("-s", "-w", *stamps)


KUBERNETES_VERSION = required_version("kubernetes", "k8s.io/kubernetes")
_KUBERNETES = kubernetes_ldflags(KUBERNETES_VERSION)


def _commands(*names: str) -> dict[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


GROUPS = {
    group.name: group
    for group in (
        Group("etcd", "etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, "20 s"),
        Group("apiserver", "kubernetes", _commands("kube-apiserver", "kubectl"), "4 min", _KUBERNETES),
        Group(
            "node",
            "kubernetes",
            _commands("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
            "4 min",
            _KUBERNETES,
        ),
        Group(
            "containerd",
            "containerd",
            {
                name: f"github.com/containerd/containerd/v2/cmd/{name}"
                for name in ("containerd", "containerd-shim-runc-v2", "ctr")
            },
            "1 min",
        ),
        Group(
            "cni",
            "cni",
            {
                "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
                "loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
                "portmap": "github.com/containernetworking/plugins/plugins/meta/portmap",
                "ptp": "github.com/containernetworking/plugins/plugins/main/ptp",
            },
            "10 s",
        ),
        Group("netpol", "netpol", {"netpol": "."}, "30 s"),
        Group("pause", "pause", {"pause": "."}, "5 s"),
        Group("coredns", "coredns", {"coredns": "."}, "30 s"),
        Group(
            "local-path",
            "local-path",
            {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
            "1 min",
        ),
        Group("helm", "helm", {"helm": "helm.sh/helm/v4/cmd/helm"}, "2 min"),
        Group("cert-manager", "cert-manager", {"cert-manager": "."}, "1 min"),
        Group(
            "conformance",
            "kubernetes",
            {"agnhost": "k8s.io/kubernetes/test/images/agnhost"},
            "3 min",
            _KUBERNETES,
            tests={"e2e.test": "k8s.io/kubernetes/test/e2e"},
        ),
    )
}

# What each mode of the lab needs.
CONTROL_PLANE = ("etcd", "apiserver")
# kubectl and helm, for who has a cluster of another kind.
CLIENTS = ("apiserver", "helm")
CLUSTER = (*CONTROL_PLANE, "node", "containerd", "cni", "netpol", "pause", "coredns", "local-path", "helm")
# What the end-to-end tests install on a cluster of any kind.
TESTS = ("cert-manager",)
CONFORMANCE = (*CLUSTER, "conformance")

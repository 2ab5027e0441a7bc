"""One node: containerd, kubelet, kube-proxy and the policy engine."""
from __future__ import annotations

import http.client
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from . import metadata
from .build import Programs
from .controlplane import ControlPlane
from .errors import LabError
from .files import write_if_changed
from .images import PAUSE
from .layout import (CLUSTER_DOMAIN, DNS_SERVICE_ADDRESS, METADATA_ADDRESS, POD_RANGE, Layout, Node)
from .process import Processes, default_environment

# The process names of a node, in the order in which they are ended.
KUBELET, PROXY, POLICY, METADATA, CONTAINERD = "kubelet", "kube-proxy", "netpol", "metadata", "containerd"


def process_name(program: str, node: Node) -> str:
    """The record's name of a node's process."""
    return f"{program}-{node.name}"


class NodeServices:
    """The processes of one node."""

    def __init__(self, layout: Layout, programs: Programs, node: Node):
        self._layout, self._programs, self._node = layout, programs, node
        self._folder = layout.node(node)
        self.processes = Processes(layout)
        self._namespace = layout.network_namespace(node) if node.in_namespace else None

    def _ensure(self, program: str, argv: list[str], **options) -> None:
        self.processes.ensure(process_name(program, self._node), argv, namespace=self._namespace, **options)

    def start_metadata(self) -> None:
        """Starts the listener on the metadata address."""
        self._ensure(METADATA, [sys.executable, "-B", metadata.__file__, METADATA_ADDRESS, "80"])

    def start_containerd(self) -> None:
        """Starts containerd and waits until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_network_config()
        self._write_registry_block()
        config = self._folder / "containerd.toml"
        write_if_changed(config, self._containerd_config())
        environment = default_environment()
        # containerd looks its shim up in PATH.
        environment["PATH"] = f"{self._programs.folder('containerd')}:{environment['PATH']}"
        self._ensure(CONTAINERD, [self._programs.path("containerd"), "--config", str(config)],
                     inputs=(config,), environment=environment)
        deadline = time.monotonic() + 30
        while self.ctr("version", check=False) is None:
            self.processes.require(process_name(CONTAINERD, self._node))
            if time.monotonic() > deadline:
                raise LabError(f"containerd of {self._node.name} didn't answer within 30 s; the last lines of its "
                               "log:\n" + self.processes.tail(process_name(CONTAINERD, self._node)))
            time.sleep(0.1)

    def ctr(self, *arguments: str, check: bool = True) -> str | None:
        """Runs containerd's client; returns its output, or None if it failed and `check` is off."""
        socket_path = self._layout.containerd_socket(self._node)
        done = subprocess.run([self._programs.path("ctr"), f"--address={socket_path}", "--namespace=k8s.io",
                               *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            if check:
                raise LabError(f"ctr {' '.join(arguments[:3])} failed: {done.stderr.strip()}")
            return None
        return done.stdout

    def _containerd_config(self) -> str:
        folder = self._folder
        runc = shutil.which("runc", path=default_environment()["PATH"])
        return f"""version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"

[grpc]
address = "{self._layout.containerd_socket(self._node)}"

[ttrpc]
address = "{folder}/containerd-ttrpc.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{folder}/registries"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{folder}/cni/bin"]
conf_dir = "{folder}/cni/conf"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
Root = "{folder}/runc"
"""

    def _write_network_config(self) -> None:
        binaries = self._folder / "cni" / "bin"
        binaries.mkdir(parents=True, exist_ok=True)
        wanted = {path.name: path for path in self._programs.folder("cni").iterdir()}
        wanted["vklab-policy"] = pathlib.Path(self._programs.path("netpol"))
        for name, target in wanted.items():
            link = binaries / name
            if not (link.is_symlink() and link.readlink() == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        # Every pod has a routed link of its own to the host, so all its traffic passes the host's
        # hooks, where policies hold.
        write_if_changed(self._folder / "cni" / "conf" / "10-lab.conflist", json.dumps({
            "cniVersion": "1.0.0",
            "name": "lab",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self._node.pod_range}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(self._folder / "cni" / "addresses"),
                    },
                },
                {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}},
                {"type": "vklab-policy", "socket": str(self._policy_socket)},
            ],
        }, indent=1))

    @property
    def _policy_socket(self) -> pathlib.Path:
        return self._folder / "netpol.sock"

    def _write_registry_block(self) -> None:
        """Points every registry at a closed port: a missing image must fail here, not ask the network."""
        write_if_changed(self._folder / "registries" / "_default" / "hosts.toml", 'server = "http://127.0.0.1:1"\n')

    def start_kubelet(self, plane: ControlPlane) -> None:
        """Starts the kubelet and kube-proxy and the policy engine."""
        node, folder = self._node, self._folder
        self._start_policy(plane)
        config = plane.client_config(f"kubelet-{node.name}", f"system:node:{node.name}", "system:nodes")
        server = plane.authority.issue(f"kubelet-{node.name}-serving", node.name, server=True,
                                       names=(node.name, node.address))
        empty = folder / "resolv.conf"
        write_if_changed(empty, "")
        settings = folder / "kubelet.json"
        write_if_changed(settings, json.dumps(self._kubelet_settings(plane, server, empty), indent=1))
        self._create_cgroup()
        self._ensure(KUBELET, [
            self._programs.path("kubelet"), f"--config={settings}", f"--kubeconfig={config}",
            f"--hostname-override={node.name}", f"--node-ip={node.address}", f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/kubelet-pki",
        ], inputs=(settings, config))
        self._start_proxy(plane)

    def _kubelet_settings(self, plane: ControlPlane, server: tuple[pathlib.Path, pathlib.Path],
                          resolver: pathlib.Path) -> dict:
        node = self._node
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "healthzBindAddress": "127.0.0.1",
            "readOnlyPort": 0,
            "tlsCertFile": str(server[0]),
            "tlsPrivateKeyFile": str(server[1]),
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": str(plane.authority.certificate)}},
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [DNS_SERVICE_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            # Empty: a pod that uses the node's resolver must not find one outside the lab.
            "resolvConf": str(resolver),
            "containerRuntimeEndpoint": f"unix://{self._layout.containerd_socket(node)}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{node.cgroup}",
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "podLogsDir": str(self._layout.logs / "pods" / node.name),
            "volumePluginDir": str(self._folder / "volume-plugins"),
            "staticPodPath": "",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
                             "nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%"},
            "maxPods": 110,
            # Pods see what changed in secrets and ConfigMaps after so long; by default it is a minute, for which tests
            # of certificates and of isolation would wait again and again.
            "syncFrequency": "10s",
            "serializeImagePulls": False,
            "registerNode": True,
            "logging": {"verbosity": 1},
            "shutdownGracePeriod": "0s",
        }

    def _create_cgroup(self) -> None:
        """Makes the node's own root in every cgroup hierarchy, so that `down` can find all of it."""
        for hierarchy in cgroup_hierarchies():
            group = hierarchy / self._node.cgroup
            group.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (group / setting).exists() and not (group / setting).read_text().strip():
                    (group / setting).write_text((hierarchy / setting).read_text())

    def _start_proxy(self, plane: ControlPlane) -> None:
        node = self._node
        settings = self._folder / "kube-proxy.json"
        write_if_changed(settings, json.dumps({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": node.name,
            "bindAddress": node.address,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "nodePortAddresses": [f"{node.address}/32"],
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "clientConnection": {"kubeconfig": str(plane.client_config("kube-proxy", "system:kube-proxy"))},
            "nftables": {"syncPeriod": "30s", "minSyncPeriod": "0s"},
        }, indent=1))
        self._ensure(PROXY, [self._programs.path("kube-proxy"), f"--config={settings}"], inputs=(settings,))

    def _start_policy(self, plane: ControlPlane) -> None:
        config = plane.client_config("netpol", "vklab:netpol")
        self._ensure(POLICY, [self._programs.path("netpol"), f"--kubeconfig={config}",
                              f"--node={self._node.name}", f"--socket={self._policy_socket}"])

    def policies_current(self) -> bool:
        """Whether the policy engine says that the kernel's rules are up to date."""
        connection = http.client.HTTPConnection("netpol", timeout=2)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(2)
            connection.sock.connect(str(self._policy_socket))
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def cgroup_hierarchies() -> list[pathlib.Path]:
    """The mounted cgroup hierarchies, v1 and v2."""
    found = []
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            found.append(pathlib.Path(point))
    return found

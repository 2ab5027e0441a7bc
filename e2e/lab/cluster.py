"""Brings the whole cluster up, adds nodes, and says how it is."""
from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time

from . import addons, images, network, teardown
from .build import Programs, ensure_debian_packages
from .controlplane import ControlPlane, Endpoints
from .errors import LabError
from .files import write_if_changed
from .layout import API_PORT, FIRST_NODE, Layout, Node
from .node import NodeServices
from .process import MARK, Processes, mark_of
from .versions import CLUSTER

ETCD_PORT, ETCD_PEER_PORT = 2379, 2380
READY_SECONDS = 120


@contextlib.contextmanager
def exclusive(layout: Layout):
    """Holds the lab's lock: one command at a time changes a lab."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network interfaces, mounts and cgroups: run it as root")
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o711)
    with open(layout.root / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another lab command to finish", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Commands that are still running when this program is killed are the lab's too.
        os.environ[MARK] = mark_of(layout)
        yield


def recorded_nodes(layout: Layout) -> list[Node]:
    """The nodes that the lab has or was told to have."""
    try:
        return [Node(**entry) for entry in json.loads((layout.root / "nodes.json").read_text())]
    except OSError:
        return []


def _record_nodes(layout: Layout, nodes: list[Node]) -> None:
    partial = layout.root / "nodes.partial"
    partial.write_text(json.dumps([{"name": node.name, "index": node.index} for node in nodes]))
    partial.replace(layout.root / "nodes.json")


class Cluster:
    """A lab with its nodes."""

    def __init__(self, layout: Layout):
        ensure_debian_packages()
        self._layout = layout
        self._programs = Programs(CLUSTER)
        if not layout.journal.exists():
            rotate_logs(layout)
        teardown.write_journal(layout)
        self._nodes = recorded_nodes(layout) or [Node(FIRST_NODE, 1)]
        _record_nodes(layout, self._nodes)
        first = self._nodes[0]
        self._plane = ControlPlane(layout, self._programs,
                                   Endpoints(first.address, API_PORT, ETCD_PORT, ETCD_PEER_PORT))

    def up(self) -> None:
        """Starts what doesn't run and waits until pods can be served."""
        archives = images.lab_archives(self._programs)
        network.set_up_machine(self._layout)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # Node addresses come first: the API server listens on the first node's.
            for node in self._nodes:
                self._set_up_network(node)
            api = pool.submit(self._plane.start)
            runtimes = [pool.submit(self._start_runtime, node, archives) for node in self._nodes]
            api.result()
            self._plane.start_controllers()
            self._plane.start_scheduler()
            self._apply_addons()
            for runtime in runtimes:
                runtime.result()
        for node in self._nodes:
            NodeServices(self._layout, self._programs, node).start_kubelet(self._plane)
        self._programs.link_into(self._layout.bin)
        self._wait_ready()

    def add_node(self, name: str) -> None:
        """Adds a node in a network namespace of its own; the lab must be up."""
        if not self._plane.ready():
            raise LabError("the lab is not up: run `lab up` first")
        if all(node.name != name for node in self._nodes):
            index = max(node.index for node in self._nodes) + 1
            self._nodes.append(Node(name, index))
            _record_nodes(self._layout, self._nodes)
        self.up()

    def _set_up_network(self, node: Node) -> None:
        others = [other for other in self._nodes if other != node]
        network.set_up_node(self._layout, node, others)
        NodeServices(self._layout, self._programs, node).start_metadata()

    def _start_runtime(self, node: Node, archives: list[pathlib.Path]) -> None:
        services = NodeServices(self._layout, self._programs, node)
        services.start_containerd()
        for archive in archives:
            images.load(services, archive)

    def _apply_addons(self) -> None:
        file = self._layout.manifests / "addons.json"
        write_if_changed(file, addons.manifests(self._layout))
        deadline = time.monotonic() + 30
        while True:
            try:
                self._plane.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={file}")
                return
            except LabError:
                # Default namespaces and roles appear a moment after the API server is ready.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def load_image(self, archive: pathlib.Path) -> str:
        """Imports an archive into every node; returns the reference by digest."""
        references = {images.load(NodeServices(self._layout, self._programs, node), archive) for node in self._nodes}
        return references.pop()

    def not_ready(self) -> list[str]:
        """What is missing before the cluster serves pods; empty when nothing is."""
        processes = Processes(self._layout)
        missing = [f"{name} has ended" for name in processes.names() if processes.pid(name) is None]
        if not self._plane.ready():
            return [*missing, "kube-apiserver does not answer"]
        states = {node["metadata"]["name"]: _condition(node, "Ready") for node in self._items("/api/v1/nodes")}
        for node in self._nodes:
            if states.get(node.name) != "True":
                missing.append(f"node {node.name} is not Ready")
            elif not NodeServices(self._layout, self._programs, node).policies_current():
                missing.append(f"network policies are not yet in force on {node.name}")
        for namespace in ("kube-system", addons.STORAGE_NAMESPACE):
            deployments = self._items(f"/apis/apps/v1/namespaces/{namespace}/deployments")
            missing += [f"deployment {deployment['metadata']['name']} is not available"
                        for deployment in deployments if _condition(deployment, "Available") != "True"]
        if not self._items("/api/v1/namespaces/default/serviceaccounts"):
            missing.append("the default service account is not there")
        return missing

    def _items(self, path: str) -> list[dict]:
        status, body = self._plane.get(path)
        return json.loads(body).get("items", []) if status == 200 else []

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while missing := self.not_ready():
            ended = [entry for entry in missing if entry.endswith("has ended")]
            if ended or time.monotonic() > deadline:
                raise LabError(f"the lab is not ready: {'; '.join(missing)}. Logs are in {self._layout.logs}")
            time.sleep(0.2)


def _condition(item: dict, kind: str) -> str | None:
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == kind:
            return condition["status"]
    return None


def rotate_logs(layout: Layout) -> None:
    """Sets the logs of an earlier lab aside, once, when a new one begins."""
    if layout.logs.exists():
        previous = layout.root / "logs.previous"
        shutil.rmtree(previous, ignore_errors=True)
        layout.logs.rename(previous)

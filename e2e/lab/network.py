"""The machine's side of the lab's network: bridge, metadata address, routes, and the fence.

Nothing that the lab does may send a packet off the machine. Three things see to it: routes that
end in nowhere for the lab's ranges, a fence in the `forward` hook that refuses what a pod sends to
any address outside them, and a name server without upstream.
"""
from __future__ import annotations

import json
import pathlib
import subprocess

from .errors import LabError
from .layout import (BRIDGE, METADATA_ADDRESS, METADATA_INTERFACE, NODE_RANGE, POD_RANGE, SERVICE_RANGE,
                     Layout, Node)

FENCE_TABLE = "vklab_fence"
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
}


def run(*argv: str, stdin: str | None = None, check: bool = True) -> str:
    """Runs a command; returns its standard output."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip()}")
    return done.stdout


def _inside(layout: Layout, node: Node) -> list[str]:
    """The prefix that runs a command in the node's network."""
    return ["nsenter", f"--net={layout.network_namespace(node)}"] if node.in_namespace else []


def interfaces(*prefix: str) -> dict[str, dict]:
    """All network interfaces by name, in the network that `prefix` enters."""
    return {link["ifname"]: link for link in json.loads(run(*prefix, "ip", "-json", "address", "show"))}


def set_up_machine(layout: Layout) -> None:
    """The bridge between nodes, and forwarding."""
    for name, value in SYSCTLS.items():
        pathlib.Path("/proc/sys", name).write_text(value)
    present = interfaces()
    _require_ours(layout, present)
    if BRIDGE not in present:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "alias", str(layout.root))
    run("ip", "link", "set", BRIDGE, "up")


def _require_ours(layout: Layout, present: dict[str, dict]) -> None:
    owner = present.get(BRIDGE, {}).get("ifalias")
    if owner and owner != str(layout.root):
        raise LabError(f"another lab, with its state in {owner}, is up: "
                       f"take it down first (`lab down --state {owner}`)")


def set_up_node(layout: Layout, node: Node, others: list[Node]) -> None:
    """The node's addresses, routes and fence."""
    prefix = _inside(layout, node)
    uplink = BRIDGE
    if node.in_namespace:
        _create_namespace(layout, node)
        uplink = "eth0"
    run(*prefix, "ip", "address", "replace", f"{node.address}/24", "dev", uplink)
    if METADATA_INTERFACE not in interfaces(*prefix):
        # A bridge without ports: the kernel may have no `dummy` interfaces.
        run(*prefix, "ip", "link", "add", METADATA_INTERFACE, "type", "bridge")
    run(*prefix, "ip", "link", "set", METADATA_INTERFACE, "up")
    run(*prefix, "ip", "address", "replace", f"{METADATA_ADDRESS}/32", "dev", METADATA_INTERFACE)
    # A service address is translated before it is routed, except for the host's own packets: those
    # need some route. What is left over ends in the empty bridge.
    run(*prefix, "ip", "route", "replace", SERVICE_RANGE, "dev", METADATA_INTERFACE, "src", node.address)
    # A dead pod's address has no route of its own and must not follow the default route.
    for unreachable in (POD_RANGE, "198.18.0.0/15"):
        run(*prefix, "ip", "route", "replace", "unreachable", unreachable, "metric", "4278198272")
    for other in others:
        run(*prefix, "ip", "route", "replace", other.pod_range, "via", other.address)
    run(*prefix, "nft", "-f", "-", stdin=fence())


def fence() -> str:
    """The rule set that keeps forwarded packets of the lab inside the lab."""
    inside = f"{POD_RANGE}, {SERVICE_RANGE}, {NODE_RANGE}"
    return f"""table inet {FENCE_TABLE} {{}}
delete table inet {FENCE_TABLE}
table inet {FENCE_TABLE} {{
	chain forward {{
		type filter hook forward priority -10; policy accept;
		ip saddr {{ {inside} }} ip daddr != {{ {inside} }} reject with icmpx type admin-prohibited
		iifname "veth*" meta nfproto ipv6 drop
	}}
}}
"""


def _create_namespace(layout: Layout, node: Node) -> None:
    """A network namespace with a cable to the bridge.

    Made by `unshare`, not by `ip netns add`, which mounts /run/netns over itself and hides what
    others keep there.
    """
    file = layout.network_namespace(node)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not is_mounted(file):
        file.touch()
        run("unshare", f"--net={file}", "true")
    prefix = _inside(layout, node)
    run(*prefix, "ip", "link", "set", "lo", "up")
    if "eth0" not in interfaces(*prefix):
        run("ip", "link", "delete", node.link, check=False)
        peer = f"{node.link}p"
        run("ip", "link", "add", node.link, "type", "veth", "peer", "name", peer)
        run("ip", "link", "set", node.link, "master", BRIDGE, "up")
        run("ip", "link", "set", peer, "netns", str(file))
        run(*prefix, "ip", "link", "set", peer, "name", "eth0")
    run(*prefix, "ip", "link", "set", "eth0", "up")
    run(*prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def is_mounted(path: pathlib.Path) -> bool:
    """Whether something is mounted exactly there."""
    return any(entry == str(path) for entry in mount_points())


def mount_points() -> list[str]:
    """All mount points, in the order in which they were made."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    # Spaces and the like are written as octal escapes.
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]

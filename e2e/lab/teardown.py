"""Takes a lab down and leaves the machine as it was before, whatever state `up` was in.

What is the lab's is known in three ways, none of which depends on `up` having finished: processes
carry a mark, everything else has the lab's own names or lies below its state folder, and what the
lab changes in place (kernel settings, folders that Kubernetes insists on) is written into a journal
before it is changed.
"""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import time

from .errors import LabError
from .layout import BRIDGE, METADATA_INTERFACE, POD_RANGE, Layout, Node
from .network import FENCE_TABLE, interfaces, mount_points, run
from .process import Processes, end, marked, start_time

# Kernel settings that the lab, the kubelet or kube-proxy change.
SYSCTLS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/vs/conn_reuse_mode", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic",
    "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
    "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait", "net/netfilter/nf_conntrack_tcp_be_liberal",
)
# Folders outside the state folder that kubelet, containerd or CNI plugins create.
FOLDERS = ("/run/containerd", "/run/netns", "/run/runc", "/run/cdi", "/var/lib/kubelet", "/var/log/containers",
           "/var/log/pods", "/var/lib/cni", "/var/lib/containerd", "/opt/containerd", "/opt/cni", "/etc/cni",
           "/usr/libexec/kubernetes", "/var/run/kubernetes", "/etc/kubernetes")
# nftables tables of the lab's programs.
TABLES = (("ip", "vklab_policy"), ("inet", FENCE_TABLE), ("ip", "kube-proxy"), ("ip6", "kube-proxy"),
          ("ip", "cni_hostport"), ("ip6", "cni_hostport"))
# The tables that iptables works in. Its nftables variant makes each when it is first needed and never removes it.
IPTABLES_TABLES = frozenset(f"{family} {name}" for family in ("ip", "ip6")
                            for name in ("raw", "mangle", "nat", "filter", "security"))
IPTABLES_CHAINS = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
UNREACHABLE = (POD_RANGE, "198.18.0.0/15")


def write_journal(layout: Layout) -> None:
    """Writes down, once and before anything is changed, how the machine was."""
    if layout.journal.exists():
        return
    content = {
        "sysctls": {name: value for name in SYSCTLS if (value := _read_sysctl(name)) is not None},
        "absent_folders": [folder for folder in FOLDERS if not os.path.lexists(folder)],
        "tables": sorted(_tables()),
        "had_iptables_chains": bool(_kubernetes_iptables_chains("iptables")),
    }
    partial = layout.journal.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(layout.journal)


def take_down(layout: Layout, nodes: list[Node]) -> None:
    """Ends and removes everything of the lab but its logs. Safe to repeat."""
    _end_processes(layout, nodes)
    _unmount(layout)
    _remove_interfaces(layout, nodes)
    journal = json.loads(layout.journal.read_text()) if layout.journal.exists() else None
    _remove_rules(journal)
    _remove_cgroups(nodes)
    if journal:
        _restore(journal)
    left = leftovers(layout, nodes)
    if left:
        raise LabError(f"these could not be removed: {'; '.join(left)}. Run `lab down` again; if that does not "
                       "help, restart the machine")
    for entry in layout.root.iterdir():
        if entry.name in ("logs", "logs.previous", "lock", layout.journal.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    # Last, so that a `down` that was interrupted still knows how the machine was.
    layout.journal.unlink(missing_ok=True)


def _end_processes(layout: Layout, nodes: list[Node]) -> None:
    processes = Processes(layout)
    # The kubelets first, or they would start again what is ended next.
    for name in processes.names():
        if name.startswith("kubelet-"):
            processes.stop(name, grace=0)
    deadline = time.monotonic() + 20
    while True:
        contained = _contained(nodes)
        end(contained, grace=0)
        end(marked(layout), grace=0)
        if not _contained(nodes) and not marked_alive(layout):
            break
        if time.monotonic() > deadline:
            break
    for name in processes.names():
        processes.stop(name, grace=0)


def marked_alive(layout: Layout) -> list[int]:
    """Processes of the lab that have not ended (a zombie has)."""
    return [pid for pid in marked(layout) if start_time(pid) is not None]


def _contained(nodes: list[Node]) -> list[int]:
    """Processes in containers of the lab."""
    found = set()
    for group in _cgroups(nodes):
        for file in group.rglob("cgroup.procs"):
            try:
                found.update(int(line) for line in file.read_text().split())
            except OSError:
                continue
    return [pid for pid in found if start_time(pid) is not None]


def _cgroups(nodes: list[Node]) -> list[pathlib.Path]:
    from .node import cgroup_hierarchies
    return [hierarchy / node.cgroup for hierarchy in cgroup_hierarchies() for node in nodes
            if (hierarchy / node.cgroup).is_dir()]


def _mounts_below(layout: Layout) -> list[str]:
    return [point for point in mount_points() if point.startswith(f"{layout.root}/")]


def _unmount(layout: Layout) -> None:
    for _ in range(20):
        points = _mounts_below(layout)
        if not points:
            return
        for point in reversed(points):
            run("umount", point, check=False)
        for point in reversed(_mounts_below(layout)):
            # Something still has it open: it goes when that ends.
            run("umount", "--lazy", point, check=False)


def _our_interfaces(layout: Layout, nodes: list[Node]) -> list[str]:
    present = interfaces()
    owner = present.get(BRIDGE, {}).get("ifalias")
    if owner and owner != str(layout.root):
        return []
    gateways = {node.pod_gateway for node in nodes}
    found = [name for name in present
             if name in (BRIDGE, METADATA_INTERFACE) or name.startswith("vklab-n")]
    found += [name for name, link in present.items() if name.startswith("veth")
              and any(address.get("local") in gateways for address in link.get("addr_info", []))]
    return found


def _remove_interfaces(layout: Layout, nodes: list[Node]) -> None:
    for _ in range(50):
        found = _our_interfaces(layout, nodes)
        if not found:
            break
        for name in found:
            # A pod's link also vanishes by itself when its namespace does.
            run("ip", "link", "delete", name, check=False)
        time.sleep(0.05)
    for destination in UNREACHABLE:
        if _has_unreachable(destination):
            run("ip", "route", "delete", "unreachable", destination, check=False)


def _has_unreachable(destination: str) -> bool:
    routes = json.loads(run("ip", "-json", "route", "show", "type", "unreachable") or "[]")
    return any(route.get("dst") == destination for route in routes)


def _tables() -> set[str]:
    listed = run("nft", "list", "tables", check=False)
    return {line.removeprefix("table ").strip() for line in listed.splitlines()}


def _our_tables(journal: dict | None) -> list[str]:
    before = set(journal["tables"]) if journal else set()
    names = {f"{family} {name}" for family, name in TABLES}
    return sorted((_tables() & names) - before)


def empty_iptables_tables(before: set[str]) -> list[str]:
    """Tables of iptables that were not there before and in which nobody has anything of his own."""
    found = []
    for table in sorted((_tables() & IPTABLES_TABLES) - before):
        listed = run("nft", "--json", "list", "table", *table.split(), check=False)
        # Of one that can't be read nobody knows what is in it.
        if listed and not any(map(_is_somebodys, json.loads(listed)["nftables"])):
            found.append(table)
    return found


def _is_somebodys(entry: dict) -> bool:
    """Whether iptables would not have made this entry of a table by itself."""
    (kind, content), = entry.items()
    if kind == "chain":
        return content["name"] not in IPTABLES_CHAINS or content.get("policy") != "accept"
    return kind not in ("metainfo", "table")


def _kubernetes_iptables_chains(program: str) -> list[str]:
    if not shutil.which(f"{program}-save"):
        return []
    found, table = [], ""
    for line in run(f"{program}-save", check=False).splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":KUBE-", ":CNI-")):
            found.append(f"{table} {line[1:].split()[0]}")
    return found


def _remove_rules(journal: dict | None) -> None:
    for table in _our_tables(journal):
        run("nft", "delete", "table", *table.split(), check=False)
    if not (journal and journal["had_iptables_chains"]):
        _remove_kubernetes_iptables_chains()
    for table in empty_iptables_tables(set(journal["tables"])) if journal else ():
        run("nft", "delete", "table", *table.split(), check=False)


def _remove_kubernetes_iptables_chains() -> None:
    for program in ("iptables", "ip6tables"):
        chains = [entry.split() for entry in _kubernetes_iptables_chains(program)]
        for table, _ in chains:
            for line in run(f"{program}-save", "-t", table, check=False).splitlines():
                if line.startswith("-A ") and ("KUBE-" in line or "CNI-" in line):
                    run(program, "-t", table, "-D", *line.split()[1:], check=False)
        for table, chain in chains:
            run(program, "-t", table, "-F", chain, check=False)
            run(program, "-t", table, "-X", chain, check=False)


def _remove_cgroups(nodes: list[Node]) -> None:
    for _ in range(50):
        groups = _cgroups(nodes)
        if not groups:
            return
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass  # its last process is still being reaped
        time.sleep(0.05)


def _restore(journal: dict) -> None:
    for name, value in journal["sysctls"].items():
        if _read_sysctl(name) not in (None, value):
            try:
                pathlib.Path("/proc/sys", name).write_text(value)
            except OSError as error:
                print(f"could not set {name} back to {value}: {error}")
    for folder in journal["absent_folders"]:
        if os.path.isdir(folder) and not any(point.startswith(f"{folder}/") for point in mount_points()):
            shutil.rmtree(folder)


def _read_sysctl(name: str) -> str | None:
    try:
        return pathlib.Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def leftovers(layout: Layout, nodes: list[Node]) -> list[str]:
    """What of the lab is still on the machine, apart from its logs."""
    journal = json.loads(layout.journal.read_text()) if layout.journal.exists() else None
    left = [f"process {pid}" for pid in {*marked_alive(layout), *_contained(nodes)}]
    left += [f"mount {point}" for point in _mounts_below(layout)]
    left += [f"interface {name}" for name in _our_interfaces(layout, nodes)]
    left += [f"route unreachable {destination}" for destination in UNREACHABLE if _has_unreachable(destination)]
    left += [f"nftables table {table}" for table in _our_tables(journal)]
    left += [f"cgroup {group}" for group in _cgroups(nodes)]
    return left

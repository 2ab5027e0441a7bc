"""Control-plane-only mode: etcd and kube-apiserver on ports of the loopback address.

Made for integration tests of controllers: seconds to start, several at a time, no root needed.
"""
from __future__ import annotations

import json
import shutil

from .build import Programs
from .controlplane import ControlPlane, Endpoints, free_ports
from .errors import LabError
from .layout import Layout
from .process import Processes, end, marked
from .versions import CONTROL_PLANE

PORTS = "ports.json"


def up(layout: Layout, port: int | None, controllers: str | None) -> None:
    """Starts the control plane, or what of it doesn't run; prints nothing."""
    programs = Programs((*CONTROL_PLANE, "node") if controllers else CONTROL_PLANE)
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    plane = ControlPlane(layout, programs, _endpoints(layout, port))
    plane.start()
    if controllers:
        plane.start_controllers(controllers, secure_port=free_ports(1)[0])
    programs.link_into(layout.bin)


def down(layout: Layout) -> None:
    """Ends the control plane and removes its folder."""
    if not layout.root.exists():
        return
    if any(layout.root.iterdir()) and not (layout.root / PORTS).exists():
        raise LabError(f"{layout.root} is no control plane's state folder: nothing was removed")
    processes = Processes(layout)
    # kube-apiserver takes up to a minute to obey SIGTERM, and nothing here is worth its goodbye.
    for name in processes.names():
        processes.stop(name, grace=0)
    end(marked(layout), grace=0)
    shutil.rmtree(layout.root)


def _endpoints(layout: Layout, port: int | None) -> Endpoints:
    """Ports of an earlier start, so that a second `up` changes nothing; else free ones."""
    note = layout.root / PORTS
    if note.exists():
        ports = json.loads(note.read_text())
        if port is None or ports[0] == port:
            return Endpoints("127.0.0.1", *ports)
    ports = free_ports(3)
    if port is not None:
        ports[0] = port
    note.write_text(json.dumps(ports))
    return Endpoints("127.0.0.1", *ports)

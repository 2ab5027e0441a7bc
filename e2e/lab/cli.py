"""The `lab` command."""
from __future__ import annotations

import argparse
import pathlib
import sys

from .errors import LabError
from .layout import DEFAULT_CONTROL_PLANE_STATE, DEFAULT_STATE, Layout, state_folder


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `lab down` removes what was started", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="A real Kubernetes on this one machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--state", help=f"state folder (default: $VECTORKEEP_LAB_STATE or {DEFAULT_STATE})")
        added.set_defaults(run=run)
        return added

    build = command("build", _build, "build the programs and install the Debian packages that the lab needs")
    build.add_argument("--for", dest="purpose", choices=("cluster", "control-plane", "conformance"),
                       default="cluster", help="what to build for (default: cluster)")

    plane = command("control-plane", _control_plane, "etcd and kube-apiserver only, for integration tests")
    plane.add_argument("action", choices=("up", "down"))
    plane.add_argument("--port", type=int, help="port of the API server (default: a free one)")
    plane.add_argument("--controllers", metavar="LIST",
                       help="also run kube-controller-manager with these controllers, such as "
                            "namespace-controller,serviceaccount-controller")
    return parser


def _layout(options) -> Layout:
    return Layout(state_folder(options.state))


def _build(options) -> None:
    from . import versions
    from .build import Programs, cache_root, ensure_debian_packages
    groups = {"cluster": versions.CLUSTER, "control-plane": versions.CONTROL_PLANE,
              "conformance": versions.CONFORMANCE}[options.purpose]
    ensure_debian_packages()
    Programs(groups).link_into(cache_root() / "current")
    print(f"programs are in {cache_root() / 'current'}")


def _control_plane(options) -> None:
    from . import standalone
    layout = Layout(pathlib.Path(options.state or DEFAULT_CONTROL_PLANE_STATE).absolute())
    if options.action == "up":
        standalone.up(layout, options.port, options.controllers)
        print(layout.kubeconfig)
    else:
        standalone.down(layout)

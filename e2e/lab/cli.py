"""The `lab` command."""
from __future__ import annotations

import argparse
import pathlib
import sys
import time

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
    build.add_argument("--for", dest="purpose", choices=("cluster", "clients", "control-plane", "tests", "conformance"),
                       default="cluster", help="what to build for (default: cluster)")

    command("up", _up, "start the cluster, or what of it does not run, and wait until it is ready")
    command("down", _down, "remove everything of the cluster but its logs")
    command("status", _status, "say whether the cluster is ready, and what is missing (exit status 1)")
    command("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig")

    load = command("image-load", _image_load, "import OCI archives into every node; prints each name by digest")
    load.add_argument("archives", nargs="+", type=pathlib.Path, metavar="ARCHIVE")

    image = command("image", _image, "assemble an OCI archive of one program; prints the image's digest")
    image.add_argument("--name", required=True, help="reference with a tag, such as lab.invalid/engine:dev")
    image.add_argument("--binary", required=True, type=pathlib.Path, help="the program on this machine")
    image.add_argument("--path", help="where the program lies in the image (default: /NAME-OF-THE-FILE)")
    image.add_argument("--entry", nargs="+", metavar="WORD", help="entry point (default: the program's path)")
    image.add_argument("--file", action="append", default=[], metavar="PATH=SOURCE", help="one more file")
    image.add_argument("--out", required=True, type=pathlib.Path, help="the archive to write")

    add = command("node-add", _node_add, "add a node in a network namespace of its own")
    add.add_argument("name")

    suite = command("conformance", _conformance, "run Kubernetes' own NetworkPolicy suite against the lab")
    suite.add_argument("--focus", help="run only the specs that match this expression")

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
    groups = {"cluster": versions.CLUSTER, "clients": versions.CLIENTS, "control-plane": versions.CONTROL_PLANE,
              "tests": versions.TESTS, "conformance": versions.CONFORMANCE}[options.purpose]
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


def _up(options) -> None:
    from .cluster import Cluster, exclusive
    layout = _layout(options)
    with exclusive(layout):
        started = time.monotonic()
        Cluster(layout).up()
        print(f"ready in {time.monotonic() - started:.1f} s; kubeconfig: {layout.kubeconfig}")


def _down(options) -> None:
    from . import teardown
    from .cluster import exclusive, recorded_nodes
    layout = _layout(options)
    if not layout.root.exists():
        print(f"there is no lab in {layout.root}")
        return
    with exclusive(layout):
        teardown.take_down(layout, recorded_nodes(layout))
    print(f"the lab is down; its logs are in {layout.logs}")


def _status(options) -> int:
    from .cluster import Cluster, exclusive
    layout = _layout(options)
    if not layout.journal.exists():
        print("the lab is down")
        return 1
    with exclusive(layout):
        missing = Cluster(layout).not_ready()
    print("\n".join(missing) if missing else "ready")
    return 1 if missing else 0


def _kubeconfig(options) -> int:
    layout = _layout(options)
    if not layout.kubeconfig.exists():
        raise LabError(f"there is no lab in {layout.root}: run `lab up` first")
    print(layout.kubeconfig)


def _image_load(options) -> None:
    from .cluster import Cluster, exclusive
    layout = _layout(options)
    if not layout.kubeconfig.exists():
        raise LabError(f"there is no lab in {layout.root}: run `lab up` first")
    with exclusive(layout):
        cluster = Cluster(layout)
        for archive in options.archives:
            print(cluster.load_image(archive))


def _image(options) -> None:
    from . import images, oci
    if not options.binary.is_file():
        raise LabError(f"there is no program {options.binary}")
    image = images.program_image(options.name, options.binary, options.path or f"/{options.binary.name}")
    if options.entry:
        image.entrypoint = options.entry
    for extra in options.file:
        path, _, source = extra.partition("=")
        image.add_file(path, pathlib.Path(source).read_bytes())
    print(oci.write_archive(image, options.out))


def _node_add(options) -> None:
    from .cluster import Cluster, exclusive
    layout = _layout(options)
    with exclusive(layout):
        Cluster(layout).add_node(options.name)
    print(f"{options.name} is ready")


def _conformance(options) -> int:
    from . import conformance
    return conformance.run_suite(_layout(options), options.focus)

"""The images that the lab itself needs, and how archives get into a node."""
from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess

from .build import Programs, cache_root
from .errors import LabError
from .oci import Image, read_reference, repository, write_archive

# No registry answers to this host: the lab blocks all of them, and the domain is reserved (RFC 2606).
PAUSE = "lab.invalid/pause:1"
PROBE = "lab.invalid/probe:1"
COREDNS = "lab.invalid/coredns:1"
LOCAL_PATH = "lab.invalid/local-path-provisioner:1"
# The name under which Kubernetes' own suite asks for its test program.
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"


def program_image(name: str, binary: pathlib.Path, path: str, *, user: int | None = None,
                  arguments: list[str] | None = None) -> Image:
    """An image of one program and what it needs."""
    image = Image(name, [path, *(arguments or [])])
    if user is not None:
        image.user = user
    image.add_base()
    image.add_program(binary, path)
    return image


def probe_image() -> Image:
    """A shell with the usual small tools, for probes from inside pods and for the provisioner."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise LabError("busybox is missing: install the Debian package busybox-static")
    image = program_image(PROBE, pathlib.Path(busybox), "/bin/busybox")
    image.entrypoint = ["/bin/sh"]
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            image.add_link(f"/bin/{applet}", "busybox")
    return image


def lab_archives(programs: Programs) -> list[pathlib.Path]:
    """Archives of the cluster's own images, from the cache where it has them."""
    return [
        _cached(PAUSE, pathlib.Path(programs.path("pause")), "/pause"),
        _cached(COREDNS, pathlib.Path(programs.path("coredns")), "/coredns"),
        _cached(LOCAL_PATH, pathlib.Path(programs.path("local-path-provisioner")), "/local-path-provisioner"),
        _cached(PROBE, pathlib.Path(shutil.which("busybox") or "/bin/busybox"), None),
    ]


def agnhost_archive(programs: Programs) -> pathlib.Path:
    """The archive of the conformance suite's test program. It runs as root, as the original does."""
    return _cached(AGNHOST, pathlib.Path(programs.path("agnhost")), "/agnhost", user=0)


def _cached(name: str, binary: pathlib.Path, path: str | None, user: int | None = None) -> pathlib.Path:
    """Assembles the archive unless one of the same program and recipe is in the cache."""
    digest = hashlib.sha256(name.encode())
    for source in (binary, *(pathlib.Path(__file__).with_name(module) for module in ("oci.py", "images.py"))):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    short = name.rpartition("/")[2].replace(":", "-")
    archive = cache_root() / "images" / f"{short}-{digest.hexdigest()[:16]}.tar"
    if not archive.exists():
        image = probe_image() if path is None else program_image(name, binary, path, user=user)
        write_archive(image, archive)
    return archive


def load(services, archive: pathlib.Path) -> str:
    """Imports an archive into a node unless it has the image; returns `repository@digest`.

    `services` is the node's NodeServices.
    """
    name, digest = read_reference(archive)
    by_digest = f"{repository(name)}@{digest}"
    present = {line.split()[0]: line.split()[2] for line in services.ctr("images", "ls").splitlines()[1:]}
    if present.get(name) == digest and by_digest in present:
        return by_digest
    services.ctr("images", "import", "--local", str(archive))
    # An import loses the name by digest, by which pods refer to images.
    services.ctr("images", "tag", "--force", name, by_digest)
    return by_digest

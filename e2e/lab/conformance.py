"""Runs Kubernetes' own NetworkPolicy suite against the lab: the judge of its policy engine."""
from __future__ import annotations

import pathlib
import re
import shutil
import socket
import subprocess
import time
import xml.etree.ElementTree

from . import images
from .build import Programs
from .cluster import Cluster, exclusive
from .errors import LabError
from .layout import Layout
from .versions import CONFORMANCE

SUITE = r"\[sig-network\] Netpol"
SKIPS = pathlib.Path(__file__).with_name("conformance-skips.txt")
PROGRESS_EVERY_SECONDS = 60


def parse_skips(text: str) -> dict[str, str]:
    """Reads the list of left-out specs: expression -> reason."""
    skips = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            expression, _, reason = line.partition("\t")
            if not reason.strip():
                raise LabError(f"{SKIPS.name}: {expression!r} has no reason")
            skips[expression] = reason.strip()
    return skips


def _kernel_has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
        return True
    except OSError:
        return False


def skipped_here() -> dict[str, str]:
    """The specs to leave out on this machine."""
    skips = parse_skips(SKIPS.read_text())
    if _kernel_has_sctp():
        skips = {expression: reason for expression, reason in skips.items() if "SCTP" not in expression}
    return skips


def run_suite(layout: Layout, focus: str | None) -> int:
    """Brings the lab up, runs the suite, prints the outcome; returns the exit status."""
    programs = Programs(CONFORMANCE)
    with exclusive(layout):
        cluster = Cluster(layout)
        cluster.up()
        cluster.load_image(images.agnhost_archive(programs))
    report = layout.root / "conformance"
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir()
    log = layout.logs / "conformance.log"
    skips = skipped_here()
    command = [programs.path("e2e.test"), "--ginkgo.no-color", "--ginkgo.v", f"--ginkgo.focus={focus or SUITE}",
               "--provider=skeleton", f"--kubeconfig={layout.kubeconfig}", f"--report-dir={report}",
               "--ginkgo.timeout=80m"]
    if skips:
        command.append(f"--ginkgo.skip={'|'.join(re.escape(expression) for expression in skips)}")
    print(f"running the suite (about 15 min); its output is in {log}", flush=True)
    status = _run(command, log)
    return _summarise(report, skips, status, log)


def _run(command: list[str], log: pathlib.Path) -> int:
    started = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while True:
                try:
                    return process.wait(PROGRESS_EVERY_SECONDS)
                except subprocess.TimeoutExpired:
                    done = log.read_bytes().count(b"\n\xe2\x80\xa2 [")
                    print(f"  {time.monotonic() - started:.0f} s: {done} specs finished", flush=True)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _summarise(report: pathlib.Path, skips: dict[str, str], status: int, log: pathlib.Path) -> int:
    passed, failed = [], []
    for file in report.glob("junit*.xml"):
        for case in xml.etree.ElementTree.parse(file).iter("testcase"):
            name = case.get("name", "")
            if not name.startswith("[It]") or case.find("skipped") is not None:
                continue
            broken = case.find("failure") is not None or case.find("error") is not None
            (failed if broken else passed).append(name)
    for expression, reason in skips.items():
        print(f"left out: {expression}: {reason}")
    for name in failed:
        print(f"FAILED: {name}")
    print(f"{len(passed)} passed, {len(failed)} failed")
    if not passed and not failed:
        raise LabError(f"the suite ran no spec (exit status {status}); see {log}")
    return 1 if failed or status != 0 else 0

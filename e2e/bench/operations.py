"""How long the operations take that a customer waits for: creation, cut-off, return, patch.

`python -m e2e.bench.operations` starts the lab if it does not run, and prints a Markdown table; the same as JSON lies in
`target/bench/operations.json`. Wall-clock times as a client outside the cluster sees them.
"""
from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Sequence

from pymilvus import MilvusClient, MilvusException

from ..harness import cluster as clusters
from ..harness import images
from ..harness.installation import NEXT_VERSION, OPERATOR_NAMESPACE, Client, Installation, Tenant, count
from ..harness.kms import KmsSimulator
from ..harness.shell import ROOT, wait_for

KEY_REVOKED = 2500
CHECK_INTERVAL = 10.0
ROWS, DIMENSION = 20_000, 64
RESULT = ROOT / "target" / "bench" / "operations.json"
NEVER = {"window": {"schedule": "0 0 29 2 *"}}
ALWAYS = {"window": {"schedule": "* * * * *", "duration": "1h"}}
POLL = 0.05


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="cut-offs and returns")
    parser.add_argument("--clusters", type=int, default=3, help="clusters that are created and patched")
    options = parser.parse_args()
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    cluster = clusters.start()
    built = images.build_and_load(cluster)
    with KmsSimulator(cluster, built) as simulator:
        installation = Installation(cluster, built)
        installation.install()
        installation.offer()
        tenants = [Tenant(cluster, simulator, "acme", f"bench-{number}", {"upgrade": NEVER}) for number in range(options.clusters)]
        try:
            times = {"apply to Ready": [created(tenant) for tenant in tenants]}
            times |= cut_off_and_return(tenants[0], options.rounds)
            times |= patched(installation, tenants)
        finally:
            for tenant in tenants:
                tenant.delete()
            installation.offer()
            cluster.kubectl("-n", OPERATOR_NAMESPACE, "delete", "configmap", "upgrade-fleet", "--ignore-not-found")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(times, indent=2) + "\n")
    print(table(times))
    return 0


def created(tenant: Tenant) -> float:
    """Seconds from apply to Ready."""
    tenant.delete()
    tenant.create_key()
    started = time.monotonic()
    tenant.apply()
    tenant.wait_ready()
    return time.monotonic() - started


def cut_off_and_return(tenant: Tenant, rounds: int) -> dict[str, list[float]]:
    """Seconds from the moment in which the key is disabled to the first refusal, and from the moment in which it is
    enabled to the first answer with every row."""
    cut_offs, returns = [], []
    with Client(tenant) as access:
        fill(access.connect())
        for _ in range(rounds):
            # Anywhere between two checks of the key.
            time.sleep(random.uniform(0, CHECK_INTERVAL))
            client = access.connect()
            started = time.monotonic()
            tenant.simulator.set_state(tenant.key, "Disabled")
            wait_for("a refusal", lambda: is_refused(access, client), 90, POLL)
            cut_offs.append(time.monotonic() - started)
            time.sleep(3)
            started = time.monotonic()
            tenant.simulator.set_state(tenant.key, "Enabled")
            wait_for("every row", lambda: count(access.connect(timeout=10), "rows") == ROWS, 180, POLL)
            returns.append(time.monotonic() - started)
    return {
        "key disabled to first refusal": cut_offs,
        "the same, in check intervals": [seconds / CHECK_INTERVAL for seconds in cut_offs],
        "key enabled to every row served": returns,
    }


def patched(installation: Installation, tenants: Sequence[Tenant]) -> dict[str, list[float]]:
    """What the operator reports of one patch of each cluster."""
    image = images.next_patch(installation.cluster)
    installation.offer({"version": NEXT_VERSION, "image": image})
    for tenant in tenants:
        tenant.patch({"upgrade": ALWAYS})
    reports = [
        wait_for("a report", lambda tenant=tenant: next(iter(tenant.upgrade().get("history", [])), None), 900)
        for tenant in tenants
    ]
    assert all(report["outcome"] == "Succeeded" for report in reports), reports
    return {
        "patch, from its start to its verdict": [report["durationSeconds"] for report in reports],
        "of that, not serving": [report["unavailableSeconds"] for report in reports],
    }


def fill(client: MilvusClient) -> None:
    """A collection with rows."""
    client.create_collection("rows", dimension=DIMENSION)
    vectors = random.Random(1)
    for start in range(0, ROWS, 2000):
        client.insert("rows", [
            {"id": row, "vector": [vectors.random() for _ in range(DIMENSION)]} for row in range(start, start + 2000)
        ])


def is_refused(access: Client, client: MilvusClient) -> bool:
    """Whether a read is answered with code 2500."""
    access.forward.ensure()
    try:
        client.list_collections(timeout=5)
        return False
    except MilvusException as error:
        return error.code == KEY_REVOKED


def table(times: dict[str, list[float]]) -> str:
    """Markdown: number, median, least and most of each."""
    lines = ["| | n | median | least | most |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, values in times.items():
        shown = (f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
        lines.append(f"| {name} | {len(values)} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""The demo: everything built, installed, used, cut off and brought back, with the time of each step.

Ends with a table, and the same as JSON in `target/demo/summary.json`. Leaves the cluster up.
"""
from __future__ import annotations

import json
import logging
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException

from .harness import cluster as clusters
from .harness import images, scan, words
from .harness.installation import NEXT_VERSION, OPERATOR_NAMESPACE, Client, Installation, Tenant, count
from .harness.kms import KmsSimulator
from .harness.shell import CACHE, ROOT, CommandFailed, wait_for

COLLECTION = "canary_words_collection"
KEY_REVOKED = 2500
BATCH = 5000
SEARCHES = 500
SUMMARY = ROOT / "target" / "demo" / "summary.json"
Value = TypeVar("Value")


def step(name: str, action: Callable[[], Value]) -> Value:
    """Runs one step and prints its time."""
    print(f"  {name} …", end="", flush=True)
    started = time.monotonic()
    result = action()
    print(f"\r  {name:<66}{time.monotonic() - started:8.1f} s", flush=True)
    return result


def main() -> int:
    """Runs the demo."""
    # Refusals are part of the show; the SDK would print a traceback for each.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    print("VectorKeep demo")
    data = step("words: real data, exact neighbours", words.load)
    cluster = step("a Kubernetes cluster", clusters.start)
    built = step("images, assembled and loaded", lambda: images.build_and_load(cluster))
    simulator = KmsSimulator(cluster, built)
    step("the customer's KMS (a simulator, over TLS)", simulator.__enter__)
    installation = Installation(cluster, built)
    step("VectorKeep, by Helm", installation.install)
    try:
        summary = {"cluster": cluster.kind} | drive(cluster, installation, simulator, data)
    finally:
        simulator.__exit__()
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")
    print("\n  " + "\n  ".join(f"{name:<28}{value!s:>14}" for name, value in flat(summary)))
    print(f"\n  The same as JSON: {SUMMARY.relative_to(ROOT)}")
    print("\n".join(farewell(cluster)))
    return 0 if passed(summary) else 1


def farewell(cluster: clusters.Cluster) -> list[str]:
    """How to use the cluster, and how to take it down if it is ours."""
    built = pathlib.Path(cluster.tool("kubectl")).parent
    path = f" PATH={built}:$PATH" if built.is_relative_to(CACHE) else ""
    lines = ["  The cluster is still up:", f"    export KUBECONFIG={cluster.kubeconfig}{path}", "    kubectl get vectorclusters -A"]
    if cluster.kind != "existing":
        lines.append(f"    VECTORKEEP_CLUSTER={cluster.kind} make down      # takes it down")
    return lines


def drive(cluster: clusters.Cluster, installation: Installation, simulator: KmsSimulator, data: words.Words) -> dict:
    """One tenant, from its key to its return after a cut-off, and to its first patch."""
    tenant = Tenant(cluster, simulator, "acme", "words")
    step("what an earlier demo left, removed", tenant.delete)
    step("a key whose policy is what `kubectl vectorkeep key-policy` says", tenant.create_key)
    started = time.monotonic()
    step("one VectorCluster, applied", tenant.apply)
    step("Ready", tenant.wait_ready)
    ready = time.monotonic() - started
    with Client(tenant) as access:
        client = access.connect()
        rate = step(f"{len(data.words):,} rows inserted by pymilvus", lambda: insert(client, data))
        step("flushed and indexed", lambda: index(client))
        recall, p50 = step(f"{SEARCHES} searches", lambda: search(client, data))
        canaries = [COLLECTION, "canary_text_field", *data.words[-2000:-1980:2]]
        canaries = [canary for canary in canaries if len(canary) >= 8]
        before = step("canaries in the engine's memory (positive control)",
                      lambda: scan.in_memory(scan.engine_processes(), canaries))
        cut_off = step("the master key disabled, until the first refusal", lambda: disable(tenant, access, client))
        after = step("the process replaced; canaries looked for", lambda: look(cluster, tenant, canaries))
        recovery = step("the master key enabled, until every row is back", lambda: enable(tenant, access, len(data.words)))
        rows = count(access.connect(), COLLECTION)
        report = step(f"a patch ({NEXT_VERSION}) on offer; taken inside the window, behind gates", lambda: patch(installation, tenant))
        patched = step("every row there after the patch", lambda: count_again(access, len(data.words)))
    return {
        "apply_to_ready_seconds": round(ready, 1),
        "rows_inserted": len(data.words),
        "recall_at_10": round(recall, 4),
        "insert_rows_per_second": round(rate),
        "search_p50_ms": round(p50, 2),
        "cut_off_seconds": round(cut_off, 1),
        "recovery_seconds": round(recovery, 1),
        "rows_after_recovery": rows,
        "patched_to": report["to"],
        "patch_seconds": report["durationSeconds"],
        "patch_unavailable_seconds": report["unavailableSeconds"],
        "rows_after_patch": patched,
        "canaries_found": after,
        "canaries_found_before": {"memory": before},
    }


def insert(client: MilvusClient, data: words.Words) -> float:
    """Inserts all rows; rows per second."""
    if client.has_collection(COLLECTION):
        client.drop_collection(COLLECTION)
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("canary_text_field", DataType.VARCHAR, max_length=256)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=data.vectors.shape[1])
    parameters = client.prepare_index_params()
    parameters.add_index("vector", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 100})
    client.create_collection(COLLECTION, schema=schema, index_params=parameters)
    started = time.monotonic()
    for start in range(0, len(data.words), BATCH):
        rows = range(start, min(start + BATCH, len(data.words)))
        client.insert(COLLECTION, [
            {"id": row, "canary_text_field": data.words[row][:200], "vector": data.vectors[row]} for row in rows
        ])
    return len(data.words) / (time.monotonic() - started)


def index(client: MilvusClient) -> None:
    """Turns all rows into segments and waits for their indexes."""
    client.flush(COLLECTION)
    name = client.list_indexes(COLLECTION)[0]
    wait_for("the index", lambda: client.describe_index(COLLECTION, name).get("pending_index_rows", 0) == 0, 900, 1)


def search(client: MilvusClient, data: words.Words) -> tuple[float, float]:
    """Recall at 10 against exact search, and the median time of one search in milliseconds."""
    found, times = 0, []
    for query in range(SEARCHES):
        started = time.monotonic()
        hits = client.search(COLLECTION, [data.queries[query]], limit=10, search_params={"params": {"ef": 256}})
        times.append(1000 * (time.monotonic() - started))
        found += len(np.intersect1d([hit["id"] for hit in hits[0]], data.nearest[query]))
    return found / (10 * SEARCHES), statistics.median(times)


def disable(tenant: Tenant, access: Client, client: MilvusClient) -> float:
    """Disables the key; seconds until a call is refused with code 2500. The call carries none of the canaries: what a
    client sends to a locked engine is in its memory, too."""
    tenant.simulator.set_state(tenant.key, "Disabled")
    started = time.monotonic()

    def refused() -> bool:
        access.forward.ensure()
        try:
            client.list_collections(timeout=5)
            return False
        except MilvusException as error:
            return error.code == KEY_REVOKED

    wait_for("code 2500", refused, 90, 0.1)
    return time.monotonic() - started


def look(cluster: clusters.Cluster, tenant: Tenant, canaries: list[str]) -> dict[str, int]:
    """Canaries in the memory of the engine's processes, in logs and on the volume, after the cut-off."""
    time.sleep(2)
    logs = scan.pod_logs(cluster, tenant.data_plane, "vectorkeep.dev/component=engine")
    logs += scan.pod_logs(cluster, OPERATOR_NAMESPACE, "app.kubernetes.io/name=vectorkeep-operator")
    return {
        "volume": scan.in_files(scan.volume_folder(tenant.id), canaries),
        "logs": scan.in_text(logs, canaries),
        "memory": scan.in_memory(scan.engine_processes(), canaries),
    }


def enable(tenant: Tenant, access: Client, rows: int) -> float:
    """Enables the key; seconds until every row is served again, without anybody loading anything."""
    tenant.simulator.set_state(tenant.key, "Enabled")
    started = time.monotonic()
    wait_for("all rows", lambda: count(access.connect(timeout=10), COLLECTION) == rows, 180, 0.25)
    return time.monotonic() - started


def patch(installation: Installation, tenant: Tenant) -> dict:
    """Offers the next patch and opens the window; the report of what the operator made of it."""
    installation.offer({"version": NEXT_VERSION, "image": images.next_patch(installation.cluster)})
    wait_for("the offer", lambda: tenant.upgrade().get("available") == NEXT_VERSION, 60)
    tenant.patch({"upgrade": {"window": {"schedule": "* * * * *", "duration": "1h"}}})
    return wait_for("the report", lambda: next(iter(tenant.upgrade().get("history", [])), None), 360)


def count_again(access: Client, rows: int) -> int:
    """Rows in the collection, once they are served."""
    wait_for("all rows", lambda: count(access.connect(timeout=10), COLLECTION) == rows, 180, 0.5)
    return count(access.connect(), COLLECTION)


def flat(summary: dict) -> list[tuple[str, object]]:
    """The table's lines."""
    lines: list[tuple[str, object]] = []
    for name, value in summary.items():
        if isinstance(value, dict):
            lines += [(f"{name}.{inner}", found) for inner, found in value.items()]
        else:
            lines.append((name, value))
    return lines


def passed(summary: dict) -> bool:
    """Whether the promises held."""
    return (
        summary["rows_after_recovery"] == summary["rows_after_patch"] == summary["rows_inserted"]
        and summary["patched_to"] == NEXT_VERSION
        and not any(summary["canaries_found"].values())
        and summary["canaries_found_before"]["memory"] > 0
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CommandFailed, TimeoutError) as error:
        sys.exit(f"\n{error}")

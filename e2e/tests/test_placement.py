"""Where an engine runs: on nodes of its own, and under the RuntimeClass that the resource names (docs/placement.md)."""
from __future__ import annotations

import pytest

from e2e.harness.shell import wait_for

DEDICATED = "vectorkeep.node-restriction.kubernetes.io/dedicated"
RUNTIME_CLASS = "placement-test"
# The one that the lab's containerd has (e2e/lab/node.py).
HANDLER = "runc"


@pytest.fixture
def placed(world):
    """A cluster that asks for nodes of its own, of which there are none yet."""
    if world.cluster.kind != "lab":
        pytest.skip("it labels a node, and needs to know the handlers of the node's runtime")
    world.cluster.apply({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": RUNTIME_CLASS}, "handler": HANDLER,
    })
    tenant = world.tenant("acme", "placed", isolation={"nodes": "Dedicated", "runtimeClassName": RUNTIME_CLASS})
    tenant.create_key()
    tenant.apply()
    yield tenant
    tenant.delete()
    world.cluster.kubectl("label", "nodes", "--all", f"{DEDICATED}-")
    world.cluster.kubectl("delete", "runtimeclass", RUNTIME_CLASS)


def unscheduled(tenant) -> str | None:
    """Why the engine's pod has no node, as Ready tells it."""
    ready = tenant.condition("Ready")
    said = ready.get("reason") == "EngineStarting" and "can't be scheduled" in ready["message"]
    return ready["message"] if said else None


# No node is tainted: that would keep the pods of all other tests away. The toleration is looked at in the pod.
def test_a_dedicated_engine_says_that_no_node_is_its_own_and_runs_on_the_first_that_is(world, placed):
    message = wait_for("the scheduler's reason", lambda: unscheduled(placed), 120)
    assert "node affinity/selector" in message, message

    node = world.cluster.get("nodes")["items"][0]["metadata"]["name"]
    world.cluster.kubectl("label", "node", node, f"{DEDICATED}={placed.id}")
    placed.wait_ready()
    pod = world.cluster.get("-n", placed.data_plane, "pod", "engine-0")["spec"]
    assert (pod["nodeName"], pod["nodeSelector"]) == (node, {DEDICATED: placed.id})
    assert {"key": DEDICATED, "operator": "Equal", "value": placed.id} in pod["tolerations"]
    assert pod["runtimeClassName"] == RUNTIME_CLASS

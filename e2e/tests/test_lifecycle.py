"""P8: everything converges; bad resources and refused keys are told apart and explained."""
from __future__ import annotations

import json
import time
import zlib

import pytest

from e2e.harness import kms
from e2e.harness.installation import OPERATOR_NAMESPACE, Client
from e2e.harness.shell import CommandFailed, wait_for


@pytest.fixture
def fresh(world, request):
    # A name of this run: what another one left behind, with other images, is not taken over.
    tenant = world.tenant("acme", f"t{zlib.crc32(request.node.name.encode()):08x}-{int(time.time()) % 100_000}")
    world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant.namespace}})
    yield tenant
    tenant.delete()


def warnings(world, tenant) -> list[tuple[str, str]]:
    """Events of type Warning about the tenant's VectorCluster: reason and note."""
    events = world.cluster.get("-n", tenant.namespace, "events")["items"]
    about = [event for event in events if event["involvedObject"]["name"] == tenant.name]
    assert about, "the operator tells of what it does"
    return [(event["reason"], event["message"]) for event in about if event["type"] == "Warning"]


def test_a_refused_key_is_explained_and_creation_completes_when_it_is_allowed(fresh, tmp_path):
    fresh.create_key()
    fresh.simulator.call("PUT", f"/keys/{fresh.key}/policy", {"Version": "2012-10-17", "Statement": []})
    fresh.apply()
    refused = wait_for("the refusal", lambda: (
        fresh.condition("KeyAccessible") if fresh.condition("KeyAccessible").get("status") == "False" else None), 180)
    assert fresh.condition("Ready")["status"] == "False"
    assert kms.key_arn(fresh.key) in refused["message"]
    assert f"the statement that `kubectl vectorkeep key-policy -n {fresh.namespace} {fresh.name}`" in refused["message"]
    with pytest.raises(CommandFailed, match="KeyRefused"):  # not ready is a status of its own
        fresh.cli("status")
    allowed = {"Version": "2012-10-17", "Statement": [fresh.key_policy()]}
    fresh.simulator.call("PUT", f"/keys/{fresh.key}/policy", allowed)
    fresh.wait_ready()
    printed = fresh.cli("connect", "--ca-file", tmp_path / "ca.crt")
    assert fresh.connection()["uri"] in printed
    # Looked for first: what is compared in a failed assertion is printed.
    leaked = fresh.connection()["password"] in printed
    assert not leaked
    assert (tmp_path / "ca.crt").read_text() == fresh.connection()["ca.crt"]


def test_an_operator_killed_in_the_middle_of_a_first_reconcile_converges(world, fresh):
    fresh.create_key()
    fresh.apply()
    wait_for("the namespace", lambda: world.cluster.exists("namespace", fresh.data_plane), 60, 0.05)
    world.cluster.kubectl("-n", OPERATOR_NAMESPACE, "delete", "pods", "-l", "app.kubernetes.io/name=vectorkeep-operator",
                          "--grace-period=0", "--force")
    fresh.wait_ready(300)


def test_edits_deletion_and_re_creation_converge_with_the_data_that_the_policy_keeps(world, fresh):
    fresh.spec = {"deletionPolicy": "Retain"}
    fresh.create_key()
    fresh.apply()
    fresh.wait_ready()
    assert warnings(world, fresh) == [], "nothing went wrong"
    with Client(fresh) as access:
        client = access.connect()
        client.create_collection("kept", dimension=4)
        client.insert("kept", [{"id": row, "vector": [1.0, 2.0, 3.0, row]} for row in range(50)])

    def policies() -> set[str]:
        return set(world.cluster.kubectl("-n", fresh.data_plane, "get", "networkpolicies", "-o", "name").split())

    before = policies()
    assert before
    world.cluster.kubectl("-n", fresh.data_plane, "delete", "service/engine")
    world.cluster.kubectl("-n", fresh.data_plane, "delete", "networkpolicies", "--all")
    wait_for("the service is back", lambda: world.cluster.exists("-n", fresh.data_plane, "service", "engine"), 60)
    wait_for("the policies are back", lambda: policies() == before, 60)
    world.cluster.kubectl("-n", fresh.namespace, "patch", "vcl", fresh.name, "--type=merge", "-p",
                          json.dumps({"spec": {"encryption": {"checkInterval": "5s"}}}))
    wait_for("Ready again", lambda: fresh.status().get("observedGeneration", 0) > 1, 60)
    fresh.wait_ready()
    assert warnings(world, fresh) == [], "a pod that is replaced on purpose worries nobody"

    fresh.delete()
    assert world.cluster.exists("-n", fresh.data_plane, "pvc", "engine-data")
    assert not world.cluster.exists("-n", fresh.data_plane, "statefulset", "engine")
    fresh.apply()
    fresh.wait_ready()
    with Client(fresh) as access:
        client = access.connect()
        assert client.query("kept", filter="id >= 0", output_fields=["count(*)"])[0]["count(*)"] == 50

    fresh.spec = {"deletionPolicy": "Delete"}
    fresh.apply()
    fresh.delete()
    wait_for("the namespace is gone", lambda: not world.cluster.exists("namespace", fresh.data_plane), 120)


@pytest.mark.parametrize(("spec", "field"), [
    ({"encryption": {}}, "encryption"),
    ({"replicas": 2}, "replicas"),
    ({"storage": {"volume": {"size": "-1Gi"}}}, "size"),
    ({"network": {"clients": [{"cidr": "10.0.0.0/33"}]}}, "cidr"),
    ({"encryption": {"aws": {"keyArn": "arn:aws:s3:::bucket", "roleArn": kms.role_arn("r")}}}, "keyArn"),
    ({"tls": {"dnsNames": ["not a name"]}}, "dnsNames"),
])
def test_an_invalid_resource_is_refused_by_the_name_of_its_field(world, fresh, spec, field):
    resource = fresh.resource()
    resource["spec"] |= spec
    with pytest.raises(CommandFailed, match=field):
        world.cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(resource))


def test_a_foreign_namespace_is_not_taken_over(world, fresh):
    fresh.create_key()
    world.cluster.kubectl("create", "namespace", fresh.data_plane)
    try:
        fresh.apply()
        stalled = wait_for("the refusal", lambda: (
            fresh.condition("Stalled") if fresh.condition("Stalled").get("status") == "True" else None), 60)
        assert stalled["reason"] == "NamespaceNotOwned"
        assert not world.cluster.exists("-n", fresh.data_plane, "statefulset", "engine")
    finally:
        world.cluster.kubectl("delete", "namespace", fresh.data_plane)


def test_a_deleted_status_changes_nothing(world, acme):
    pod = world.cluster.get("-n", acme.data_plane, "pod", "engine-0")["metadata"]["uid"]
    world.cluster.kubectl("-n", acme.namespace, "patch", "vcl", acme.name, "--subresource=status", "--type=merge",
                          "-p", json.dumps({"status": None}))
    acme.wait_ready()
    assert world.cluster.get("-n", acme.data_plane, "pod", "engine-0")["metadata"]["uid"] == pod

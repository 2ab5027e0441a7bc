"""P6: tenants can't reach each other, nor anything else. Probes cross the real pod network."""
from __future__ import annotations

import hashlib
import json

import pytest

from e2e.harness.installation import INSTALLATION_ID, OPERATOR_NAMESPACE
from e2e.harness.shell import CommandFailed, wait_for

RESTRICTED = {
    "runAsNonRoot": True, "runAsUser": 65532, "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
}


class Probe:
    """A pod that tries to open connections."""

    def __init__(self, world, namespace: str, name: str, labels: dict[str, str]) -> None:
        self._world, self._namespace, self._name = world, namespace, name
        world.cluster.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "probe", "image": world.images.probe, "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sleep", "3600"], "securityContext": RESTRICTED,
                    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}},
                }],
            },
        })
        world.cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")

    def reaches(self, address: str, port: int) -> bool:
        """Whether a TCP connection opens."""
        try:
            self._world.cluster.kubectl(
                "-n", self._namespace, "exec", self._name, "--", "/bin/sh", "-c", f"nc -w 3 {address} {port} </dev/null"
            )
            return True
        except CommandFailed:
            return False

    def delete(self) -> None:
        """Removes the pod."""
        self._world.cluster.kubectl("-n", self._namespace, "delete", "pod", self._name, "--ignore-not-found", "--timeout=60s")


def pod_address(world, namespace: str, name: str) -> str:
    return world.cluster.get("-n", namespace, "pod", name)["status"]["podIP"]


@pytest.fixture(scope="module")
def targets(world, acme, other):
    operator = world.cluster.get("-n", OPERATOR_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=vectorkeep-operator")["items"][0]
    return {
        "the other tenant's engine": (pod_address(world, other.data_plane, "engine-0"), 19530),
        "the other tenant's admin port": (pod_address(world, other.data_plane, "engine-0"), 9092),
        "the other tenant's service": (world.cluster.get("-n", other.data_plane, "service", "engine")["spec"]["clusterIP"], 19530),
        # Its listener that is open to everybody: what keeps an engine from it is the engine's own policy.
        "the operator": (operator["status"]["podIP"], 8444),
        "the operator's metrics": (operator["status"]["podIP"], 8443),
        "the API server": (world.cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"], 443),
        "the metadata address": ("169.254.169.254", 80),
    }


@pytest.fixture(scope="module")
def engine_like(world, acme, targets):
    """A pod in the tenant's data plane that every policy takes for an engine."""
    labels = world.cluster.get("-n", acme.data_plane, "pod", "engine-0")["metadata"]["labels"]
    labels = {key: value for key, value in labels.items() if not key.startswith(("apps.kubernetes.io/", "statefulset.", "controller-"))}
    probe = Probe(world, acme.data_plane, "probe", labels)
    yield probe
    probe.delete()


@pytest.fixture(scope="module")
def client_pods(world, acme, other):
    inside, outside = Probe(world, "acme", "client", {"app": "client"}), Probe(world, "other", "stranger", {"app": "client"})
    yield inside, outside
    inside.delete()
    outside.delete()


def test_a_tenant_reaches_no_other_tenant_nor_the_operator_nor_the_api_server_nor_the_metadata(engine_like, targets):
    reached = [what for what, (address, port) in targets.items() if engine_like.reaches(address, port)]
    assert reached == []


def test_a_client_that_the_spec_allows_reaches_the_engine_and_nobody_else_does(world, acme, client_pods):
    inside, outside = client_pods
    engine = pod_address(world, acme.data_plane, "engine-0")
    assert inside.reaches(engine, 19530)
    assert not inside.reaches(engine, 9092)
    assert not outside.reaches(engine, 19530)
    assert not outside.reaches(engine, 9092)


def hole(namespace: str) -> dict:
    """Policies add up: with this one, the others forbid no egress any more, as on a network that enforces none."""
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "hole", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }


def test_through_a_hole_in_the_policies_the_same_probe_reaches_the_operator(world, acme, engine_like, targets):
    world.cluster.apply(hole(acme.data_plane))
    try:
        wait_for("the operator", lambda: engine_like.reaches(*targets["the operator"]), 60)
    finally:
        world.cluster.kubectl("-n", acme.data_plane, "delete", "networkpolicy", "hole")
    wait_for("isolation", lambda: not engine_like.reaches(*targets["the operator"]), 60)


def test_without_the_policies_the_same_probes_succeed(world, acme, other, engine_like, client_pods, targets):
    cluster = world.cluster
    cluster.kubectl("-n", OPERATOR_NAMESPACE, "scale", "deployment", "-l", "app.kubernetes.io/name=vectorkeep-operator", "--replicas=0")
    wait_for("the operator stopped", lambda: not cluster.get(
        "-n", OPERATOR_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=vectorkeep-operator")["items"], 120)
    try:
        for namespace in (acme.data_plane, other.data_plane):
            cluster.kubectl("-n", namespace, "delete", "networkpolicies", "--all")
        # The operator, which is stopped, has the test before this one.
        open_to_all = {what: target for what, target in targets.items() if not what.startswith("the operator")}
        if cluster.kind != "lab":
            del open_to_all["the metadata address"]  # who has such an address outside the lab is the cloud's business
        wait_for("all targets", lambda: all(engine_like.reaches(*target) for target in open_to_all.values()), 60)
        assert client_pods[1].reaches(pod_address(world, acme.data_plane, "engine-0"), 19530)
    finally:
        cluster.kubectl("-n", OPERATOR_NAMESPACE, "scale", "deployment", "-l", "app.kubernetes.io/name=vectorkeep-operator", "--replicas=2")
    wait_for("the policies are back", lambda: len(cluster.get("-n", acme.data_plane, "networkpolicies")["items"]) > 1, 180)
    wait_for("isolation", lambda: not engine_like.reaches(*targets["the other tenant's engine"]), 60)


def test_the_data_plane_admits_no_privileged_pod(world, acme):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "privileged", "namespace": acme.data_plane},
        "spec": {"hostNetwork": True, "containers": [{"name": "c", "image": world.images.probe}]},
    }
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        world.cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))


def neighbour(tenant, other) -> str:
    """What another tenant is called where this one reads it."""
    return "other-cluster-" + hashlib.sha256(f"{INSTALLATION_ID}/{tenant.id}/{other.id}".encode()).hexdigest()[:6]


def matrix(tenant) -> dict[str, str]:
    """The verdict on each target, as the status has it."""
    return {probe["target"]: probe["verdict"] for probe in tenant.status().get("isolation", {}).get("probes", [])}


def test_isolation_is_proven_on_the_running_cluster_against_everybody_that_it_must_be_kept_from(world, acme, other):
    neighbours = {f"{neighbour(acme, other)}:{port}" for port in (9092, 19530, 9091)}
    # Asking makes the operator look again; kubelet and engine take a minute each to try what was not there at the start.
    proof = json.loads(acme.cli("verify-isolation", "--output", "json"))
    assert proof["proven"], proof
    wait_for("the other tenant among the targets", lambda: all(
        matrix(acme).get(target) == "Isolated" for target in neighbours), 300)
    probes = {probe["target"]: probe for probe in acme.status()["isolation"]["probes"]}
    assert neighbours | {"operator", "kubernetes-api", "cloud-metadata"} <= set(probes)
    assert not [target for target, probe in probes.items() if probe["engineReached"]]
    sure = neighbours | {"operator", "kubernetes-api"} | ({"cloud-metadata"} if world.cluster.kind == "lab" else set())
    assert {target for target in sure if probes[target]["verdict"] != "Isolated"} == set(), probes
    assert acme.condition("NetworkIsolated")["reason"] == "Proven"
    assert "another cluster's client port" in acme.cli("verify-isolation")
    told = json.dumps([acme.status(), world.cluster.get("-n", acme.namespace, "events")["items"]])
    assert other.id not in told, "whose engine it is, is nobody's business"


def calls_for(tenant) -> int:
    """How often the KMS was asked about the tenant's key."""
    return sum(tenant.key in json.dumps(event) for event in tenant.simulator.log())


def test_where_policies_are_not_enforced_no_key_is_asked_for_and_the_cluster_does_not_become_ready(world, acme, other):
    tenant = world.tenant("acme", "exposed")
    tenant.create_key()
    # A run of this test before this one, on the same cluster, asked for the same key in the end.
    calls = calls_for(tenant)
    tenant.apply()
    wait_for("the namespace", lambda: world.cluster.exists("namespace", tenant.data_plane), 60, 0.1)
    world.cluster.apply(hole(tenant.data_plane))
    try:
        refused = wait_for("the verdict", lambda: (
            tenant.condition("NetworkIsolated") if tenant.condition("NetworkIsolated").get("status") == "False" else None), 120)
        assert refused["reason"] == "PoliciesNotEnforced"
        ready = wait_for("not Ready for that reason", lambda: (
            tenant.condition("Ready") if tenant.condition("Ready").get("reason") == "PoliciesNotEnforced" else None), 60)
        assert ready["status"] == "False"
        # All egress is open: what is still out of reach is kept so by the others' own policies.
        wait_for("the matrix", lambda: {"operator", "kubernetes-api"} <= {
            target for target, verdict in matrix(tenant).items() if verdict == "Reached"}, 60)
        others = {target: verdict for target, verdict in matrix(tenant).items() if target.startswith("other-cluster")}
        assert others and "Reached" not in others.values(), others
        with pytest.raises(CommandFailed):
            tenant.cli("verify-isolation")
        assert calls_for(tenant) == calls, "no key was asked for"
        world.cluster.kubectl("-n", tenant.data_plane, "delete", "networkpolicy", "hole")
        tenant.wait_ready()
        assert tenant.condition("NetworkIsolated")["reason"] == "Proven"
    finally:
        tenant.delete()

"""P7: engines patch themselves inside the customer's window, behind gates, with a way back and a report; until a release has
proven itself it writes what the one before can read; an upgrade of the operator restarts nobody."""
from __future__ import annotations

import json
import ssl
import urllib.request

import pytest

from e2e.harness import images, webhook
from e2e.harness.installation import NEXT_VERSION, OPERATOR_NAMESPACE, VERSION, Client
from e2e.harness.portforward import PortForward
from e2e.harness.shell import wait_for

# Formats of the chart's engine and of its next patch.
FORMAT, NEXT_FORMAT = 1, 2
NEVER = {"window": {"schedule": "0 0 29 2 *"}}
ALWAYS = {"window": {"schedule": "* * * * *", "duration": "1h"}}
ROWS = 200


@pytest.fixture(scope="module")
def receiver(world):
    """Where the installation tells of upgrades; nothing where pods don't reach this machine."""
    address = webhook.address(world.cluster)
    if not address:
        yield None
        return
    with webhook.Receiver(address) as started:
        if webhook.is_reached(world.cluster, started):
            world.installation.notify(started)
            yield started
        else:
            yield None


@pytest.fixture(scope="module")
def patched(world, receiver):
    """A Ready cluster with rows, whose window stays closed until a test opens it."""
    # As an administrator: what failed a cluster of an earlier run on this cluster is to fail again.
    world.cluster.kubectl("-n", OPERATOR_NAMESPACE, "delete", "configmap", "upgrade-fleet", "--ignore-not-found")
    tenant = world.tenant("acme", "patches", upgrade=NEVER)
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    with Client(tenant) as access:
        client = access.connect()
        client.create_collection("rows", dimension=4)
        client.insert("rows", [{"id": row, "vector": [1.0, 2.0, 3.0, row]} for row in range(ROWS)])
    yield tenant
    tenant.delete()
    world.cluster.kubectl("-n", OPERATOR_NAMESPACE, "delete", "configmap", "upgrade-fleet", "--ignore-not-found")
    world.installation.install()
    world.installation.offer()


def feed(world) -> dict:
    """The advisory feed, by a reader that can't check the certificate, which each operator process makes itself."""
    forward = PortForward(world.cluster, OPERATOR_NAMESPACE, "deployment/vectorkeep-operator", 8443)
    forward.start()
    try:
        url = f"https://localhost:{forward.port}/advisories.json"
        with urllib.request.urlopen(url, context=ssl._create_unverified_context(), timeout=20) as answer:
            return json.load(answer)
    finally:
        forward.stop()


def rows(tenant) -> int:
    with Client(tenant) as access:
        return access.connect().query("rows", filter="id >= 0", output_fields=["count(*)"])[0]["count(*)"]


def pod(world, tenant) -> dict:
    return world.cluster.get("-n", tenant.data_plane, "pod", "engine-0")


def next_release(world) -> dict:
    """The next patch, as the catalog has it."""
    return {"version": NEXT_VERSION, "image": images.next_patch(world.cluster), "format": NEXT_FORMAT}


def new_report(tenant, reports: int) -> dict:
    """The newest report, once there are more than `reports`."""
    return wait_for("a report", lambda: (
        tenant.upgrade()["history"][0] if len(tenant.upgrade().get("history", [])) > reports else None), 420)


@pytest.mark.parametrize("bad", ["crashing", "mislabelled"])
def test_a_bad_release_is_taken_back_reported_and_given_to_nobody_else(world, patched, bad):
    version = {"crashing": "0.1.2", "mislabelled": "0.1.3"}[bad]
    reports = len(patched.upgrade().get("history", []))
    image = getattr(images, bad)(world.cluster)
    world.installation.offer({"version": version, "image": image, "format": NEXT_FORMAT})
    patched.patch({"upgrade": ALWAYS})
    report = new_report(patched, reports)
    assert (report["outcome"], report["to"], report["from"]) == ("RolledBack", version, VERSION)
    assert report["reason"]
    patched.wait_ready()
    assert patched.status()["version"] == VERSION, "what the failed one said counts no more"
    assert rows(patched) == ROWS
    assert patched.upgrade()["format"] == FORMAT, "nothing keeps the release before from its store"
    fleet = world.cluster.get("-n", OPERATOR_NAMESPACE, "configmap", "upgrade-fleet")["data"]
    assert image in json.loads(fleet["quarantined.json"]), "no other cluster takes it"
    assert json.loads(fleet["moving.json"]) == {}
    assert version in patched.condition("UpToDate")["message"]
    assert len(patched.upgrade()["history"]) == reports + 1, "it is not tried again"
    patched.patch({"upgrade": NEVER})


def test_a_patch_waits_for_the_window_is_taken_inside_it_and_reported(world, patched):
    release, reports = next_release(world), len(patched.upgrade().get("history", []))
    before = pod(world, patched)["metadata"]["uid"]
    world.installation.offer(release | {"advisories": ["CVE-2026-0001"]})
    wait_for("the offer", lambda: patched.upgrade().get("available") == NEXT_VERSION, 60)
    assert patched.condition("UpToDate")["reason"] == "PatchOffered"
    assert pod(world, patched)["metadata"]["uid"] == before, "the window is closed"
    advisory = patched.upgrade()["advisories"][0]
    assert (advisory["id"], advisory["fixedIn"]) == ("CVE-2026-0001", NEXT_VERSION)
    assert "CVE-2026-0001" in patched.cli("advisories")
    item = next(item for item in feed(world)["items"] if item["id"] == "CVE-2026-0001")["_vectorkeep"]
    assert (item["severity"], item["fixedIn"]) == ("Routine", [NEXT_VERSION]) and item["openClusters"] >= 1

    patched.patch({"upgrade": ALWAYS})
    report = new_report(patched, reports)
    assert (report["outcome"], report["to"], report["advisories"]) == ("Succeeded", NEXT_VERSION, ["CVE-2026-0001"])
    assert report["window"], "it began in a window"
    assert pod(world, patched)["spec"]["containers"][0]["image"] == release["image"]
    patched.wait_ready()
    assert patched.status()["version"] == NEXT_VERSION
    assert patched.condition("UpToDate")["reason"] == "Current"
    assert rows(patched) == ROWS
    told = world.cluster.get("-n", patched.namespace, "events")["items"]
    assert {"UpgradeStarted", "UpgradeSucceeded"} <= {event["reason"] for event in told}
    assert "Succeeded" in patched.cli("upgrade history")
    assert "No advisory is open" in patched.cli("advisories")
    wait_for("the commit of the format", lambda: patched.upgrade().get("format") == NEXT_FORMAT, 180)
    assert patched.condition("Ready")["status"] == "True" and rows(patched) == ROWS


def test_what_happened_is_told_signed_and_once_more_if_it_was_not_accepted(world, patched, receiver):
    if receiver is None:
        pytest.skip("pods don't reach this machine, so no receiver on it is told anything")
    history = patched.upgrade().get("history", [])
    assert {report["outcome"] for report in history} == {"Succeeded", "RolledBack"}, "of the tests before this one"
    kinds = {"Succeeded": "dev.vectorkeep.upgrade.succeeded.v1", "RolledBack": "dev.vectorkeep.upgrade.rolledback.v1"}

    def told(kind: str) -> list[dict]:
        return [event for event in receiver.accepted(kind) if event["subject"] == patched.id]

    for report in history:
        event = wait_for(f"{report['to']} to be told", lambda: next(
            (event for event in told(kinds[report["outcome"]]) if event["data"] == report), None), 120)
        assert event["source"].endswith(f"/{patched.namespace}/{patched.name}")
    for kind in ("dev.vectorkeep.advisory.opened.v1", "dev.vectorkeep.advisory.closed.v1"):
        event = wait_for(kind, lambda: next(iter(told(kind)), None), 120)
        assert (event["data"]["advisory"], event["data"]["fixedIn"]) == ("CVE-2026-0001", NEXT_VERSION)
    assert all(delivery.signed for delivery in receiver.deliveries)
    events = {delivery.id: delivery.event for delivery in receiver.deliveries}
    assert all(events[delivery.id] == delivery.event for delivery in receiver.deliveries), "a repetition is the same event"
    # Looked for first: what is compared in a failed assertion is printed.
    leaked = receiver.key.removeprefix("whsec_") in world.logs()
    assert not leaked


def test_an_operator_that_renders_another_pod_restarts_nobody_until_the_window_or_a_request(world, patched):
    patched.patch({"upgrade": NEVER})
    before = pod(world, patched)["metadata"]["uid"]
    reports = len(patched.upgrade().get("history", []))
    world.installation.install("--set", f"operator.image={images.next_operator(world.cluster)}")
    world.installation.offer(next_release(world))
    generation = patched.status()["observedGeneration"]
    patched.patch({"network": {"clients": [{"podSelector": {}}]}})  # the new operator is at work
    wait_for("the new operator", lambda: patched.status()["observedGeneration"] > generation, 60)
    assert pod(world, patched)["metadata"]["uid"] == before

    world.cluster.kubectl("-n", patched.data_plane, "delete", "pod", "engine-0")
    patched.wait_ready()
    again = wait_for("the pod", lambda: world.cluster.get("-n", patched.data_plane, "pod", "engine-0"), 60)
    assert "vectorkeep.dev/rendered-by" not in again["metadata"]["annotations"], "an evicted pod comes back as it was"

    patched.cli("upgrade now")
    assert new_report(patched, reports)["outcome"] == "Succeeded"
    assert pod(world, patched)["metadata"]["annotations"]["vectorkeep.dev/rendered-by"] == "next"
    patched.wait_ready()
    assert rows(patched) == ROWS

"""P7: engines patch themselves inside the customer's window, behind gates, with a way back and a report; until a release has
proven itself it writes what the one before can read; an upgrade of the operator restarts nobody."""
from __future__ import annotations

import json

import pytest

from e2e.harness import images
from e2e.harness.installation import NEXT_VERSION, OPERATOR_NAMESPACE, VERSION, Client
from e2e.harness.shell import wait_for

# Formats of the chart's engine and of its next patch.
FORMAT, NEXT_FORMAT = 1, 2
NEVER = {"window": {"schedule": "0 0 29 2 *"}}
ALWAYS = {"window": {"schedule": "* * * * *", "duration": "1h"}}
ROWS = 200


@pytest.fixture(scope="module")
def patched(world):
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
    assert patched.status()["version"] == VERSION and rows(patched) == ROWS
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
    wait_for("the commit of the format", lambda: patched.upgrade().get("format") == NEXT_FORMAT, 180)
    assert patched.condition("Ready")["status"] == "True" and rows(patched) == ROWS


def test_an_operator_that_renders_another_pod_restarts_nobody_until_the_window_or_a_request(world, patched):
    patched.patch({"upgrade": NEVER})
    before = pod(world, patched)["metadata"]["uid"]
    reports = len(patched.upgrade().get("history", []))
    world.installation.install("--set", "engine.podAnnotations.example\\.com/team=search")
    world.installation.offer(next_release(world))
    generation = patched.status()["observedGeneration"]
    patched.patch({"network": {"clients": [{"podSelector": {}}]}})  # the new operator is at work
    wait_for("the new operator", lambda: patched.status()["observedGeneration"] > generation, 60)
    assert pod(world, patched)["metadata"]["uid"] == before

    world.cluster.kubectl("-n", patched.data_plane, "delete", "pod", "engine-0")
    patched.wait_ready()
    again = wait_for("the pod", lambda: world.cluster.get("-n", patched.data_plane, "pod", "engine-0"), 60)
    assert "example.com/team" not in again["metadata"]["annotations"], "an evicted pod comes back as it was"

    patched.cli("upgrade now")
    assert new_report(patched, reports)["outcome"] == "Succeeded"
    assert pod(world, patched)["metadata"]["annotations"]["example.com/team"] == "search"
    patched.wait_ready()
    assert rows(patched) == ROWS

"""P7 with several clusters of one installation: canaries go first, a pause holds, and a key that is refused blames no release.
The second test takes over where the first one ends."""
from __future__ import annotations

import datetime
import json

import pytest

from e2e.harness import images
from e2e.harness.installation import NEXT_VERSION, OPERATOR_NAMESPACE, VERSION, Tenant
from e2e.harness.shell import wait_for

# Days away, but near enough for others to wait for it.
LATER = {"window": {"schedule": f"0 0 {(datetime.date.today() + datetime.timedelta(days=3)).day} * *"}}
ALWAYS = {"window": {"schedule": "* * * * *", "duration": "1h"}}
FLEET = ("-n", OPERATOR_NAMESPACE, "configmap", "upgrade-fleet")


@pytest.fixture(scope="module")
def canary(world):
    yield from _cluster(world, "canary", "vectorkeep.dev/canary=true")


@pytest.fixture(scope="module")
def follower(world):
    yield from _cluster(world, "follower")


def _cluster(world, name: str, *labels: str):
    """A cluster, not Ready yet, whose window stays closed until a test opens it."""
    tenant = world.tenant("acme", name, upgrade=LATER)
    tenant.create_key()
    tenant.apply()
    for label in labels:
        world.cluster.kubectl("-n", tenant.namespace, "label", "vcl", name, label)
    yield tenant
    tenant.delete()


@pytest.fixture(scope="module")
def offered(world, canary, follower):
    """The next patch, on offer to both."""
    # As an administrator: what failed a cluster of an earlier run on this cluster is to be taken again.
    world.cluster.kubectl("delete", *FLEET, "--ignore-not-found")
    for tenant in (canary, follower):
        tenant.wait_ready()
    world.installation.offer({"version": NEXT_VERSION, "image": images.next_patch(world.cluster)})
    for tenant in (canary, follower):
        wait_for("the offer", lambda tenant=tenant: tenant.upgrade().get("available") == NEXT_VERSION, 60)
    yield
    world.installation.offer()
    world.cluster.kubectl("delete", *FLEET, "--ignore-not-found")


def fleet(world, entry: str) -> dict:
    """What all clusters of the installation agree on."""
    return json.loads(world.cluster.get(*FLEET)["data"][entry])


def waits(tenant: Tenant, why: str) -> None:
    """Waits until a cluster says that this holds the offer back."""
    wait_for(f"{tenant.name}: {why}", lambda: why in tenant.condition("UpToDate").get("message", ""), 60)
    assert tenant.upgrade().get("inProgress") is None and tenant.status()["version"] == VERSION


def succeeds(tenant: Tenant) -> None:
    """Waits until a cluster has taken the patch, at the first attempt."""
    reports = wait_for(f"the report of {tenant.name}", lambda: tenant.upgrade().get("history"), 300)
    assert [(report["outcome"], report["to"]) for report in reports] == [("Succeeded", NEXT_VERSION)]
    tenant.wait_ready()
    assert tenant.status()["version"] == NEXT_VERSION


def test_a_patch_goes_to_the_canary_first_and_while_its_key_is_refused_nobody_is_blamed(world, canary, follower, offered):
    follower.patch({"upgrade": ALWAYS})
    waits(follower, "vectorkeep.dev/canary=true take it first")
    canary.patch({"upgrade": ALWAYS})
    wait_for("the beginning", lambda: canary.upgrade().get("inProgress"), 60)
    canary.simulator.set_state(canary.key, "Disabled")
    try:
        wait_for("the suspension", lambda: fleet(world, "moving.json").get(canary.id, {}).get("suspended"), 120)
        wait_for("the reason", lambda: "the key" in canary.upgrade().get("inProgress", {}).get("waitsFor", ""), 60)
        waits(follower, "vectorkeep.dev/canary=true take it first")
        # For the next test: else the other one would begin as soon as the canary is done.
        follower.cli("upgrade pause")
        waits(follower, "spec.upgrade.paused")
    finally:
        canary.simulator.set_state(canary.key, "Enabled")
    succeeds(canary)
    assert fleet(world, "quarantined.json") == {}


def test_a_pause_holds_a_patch_back_in_an_open_window_and_its_end_lets_it_go(world, canary, follower, offered):
    assert canary.status()["version"] == NEXT_VERSION, "of the test before this one: no canary is waited for"
    generation = follower.status()["observedGeneration"]
    follower.patch({"upgrade": {"window": {"duration": "2h"}}})  # it is looked at once more, in the open window
    wait_for("the change", lambda: follower.status()["observedGeneration"] > generation, 60)
    waits(follower, "spec.upgrade.paused")
    follower.cli("upgrade resume")
    succeeds(follower)
    assert fleet(world, "moving.json") == {} and fleet(world, "quarantined.json") == {}

"""P4: a refused key cuts the cluster off, leaves nothing behind, and the return needs nobody."""
from __future__ import annotations

import json
import subprocess

import pytest
from pymilvus import MilvusException

from e2e.harness import kms, scan
from e2e.harness.installation import OPERATOR_NAMESPACE, Client
from e2e.harness.shell import CommandFailed, wait_for

CONSENT = "vectorkeep.dev/revoke-drill"
ROWS = 3000
CANARIES = ["canary_collection_9f3b", "canary_field_77aa", "canary value 5c1e", "canary dynamic 0d4f"]


@pytest.fixture
def filled(acme):
    with Client(acme) as access:
        client = access.connect()
        client.create_collection(CANARIES[0], dimension=8, metric_type="COSINE", auto_id=False)
        client.insert(CANARIES[0], [
            {"id": row, "vector": [1.0, row, 0, 0, 0, 0, 0, 1], CANARIES[1]: f"{CANARIES[2]} {row}", "other": CANARIES[3]}
            for row in range(ROWS)
        ])
        yield access, client
        acme.simulator.set_state(acme.key, "Enabled")
        wait_for("service", lambda: access.connect(timeout=10).drop_collection(CANARIES[0]) is None, 120)


def code_of(call) -> int:
    try:
        call()
    except MilvusException as error:
        return error.code
    return 0


def is_refused(access: Client, client) -> bool:
    """Asks with a call that carries no canary: what a client sends to a locked engine is in its memory, too."""
    access.forward.ensure()
    return code_of(lambda: client.list_collections(timeout=5)) == 2500


def count(client) -> int:
    return client.query(CANARIES[0], filter="id >= 0", output_fields=["count(*)"])[0]["count(*)"]


def test_a_disabled_key_cuts_off_and_an_enabled_one_brings_every_row_back(world, acme, filled):
    access, client = filled
    assert count(client) == ROWS
    assert scan.in_memory(scan.engine_processes(), CANARIES) == len(CANARIES), "the scanner finds what is there"
    acme.simulator.set_state(acme.key, "Disabled")
    wait_for("code 2500", lambda: is_refused(access, client), 60)
    wait_for("the condition", lambda: acme.condition("KeyAccessible").get("status") == "False", 60)
    refused = acme.condition("KeyAccessible")
    assert "key" in refused["message"]
    assert acme.condition("Ready")["status"] == "False"
    assert scan.engine_processes() and scan.in_memory(scan.engine_processes(), CANARIES) == 0
    assert scan.in_text(world.logs(), CANARIES) == 0
    assert scan.in_text(scan.all_objects(world.cluster), CANARIES) == 0
    assert scan.in_files(scan.volume_folder(acme.id), CANARIES) == 0
    operator = scan.pod_logs(world.cluster, OPERATOR_NAMESPACE, "app.kubernetes.io/name=vectorkeep-operator")
    assert scan.in_text(operator, CANARIES) == 0

    access.forward.ensure()
    writes = code_of(lambda: client.insert(CANARIES[0], [{"id": 1, "vector": [0.5] * 8}]))
    assert writes == 2500
    fresh = access.connect()
    assert code_of(lambda: fresh.list_collections()) == 2500

    assert code_of(lambda: client.query(CANARIES[0], filter="id == 1")) == 2500

    acme.simulator.set_state(acme.key, "Enabled")
    wait_for("every row", lambda: count(access.connect(timeout=10)) == ROWS, 120)
    acme.wait_ready()
    found = access.connect().search(CANARIES[0], [[1.0, 5, 0, 0, 0, 0, 0, 1]], limit=1, output_fields=["*"])[0][0]
    assert found["entity"][CANARIES[1]].startswith(CANARIES[2])


def test_removing_the_permission_cuts_off_as_disabling_does(acme, filled):
    access, client = filled
    denied = {"Version": "2012-10-17", "Statement": [acme.key_policy() | {"Effect": "Deny"}]}
    acme.simulator.call("PUT", f"/keys/{acme.key}/policy", denied)
    wait_for("code 2500", lambda: is_refused(access, client), 60)
    access.forward.ensure()
    allowed = {"Version": "2012-10-17", "Statement": [acme.key_policy()]}
    acme.simulator.call("PUT", f"/keys/{acme.key}/policy", allowed)
    wait_for("every row", lambda: count(access.connect(timeout=10)) == ROWS, 120)


@pytest.fixture
def consent(world, acme):
    """The owner's consent to a drill, when it is called."""
    annotate = ("-n", acme.namespace, "annotate", "vcl", acme.name)
    yield lambda: world.cluster.kubectl(*annotate, f"{CONSENT}=allowed")
    world.cluster.kubectl(*annotate, f"{CONSENT}-")


def wait_until_said(drill: subprocess.Popen[str], words: str) -> None:
    """Reads what a drill says until these words are in a line."""
    assert drill.stderr
    said = []
    for line in drill.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"the drill ended without {words!r}: {''.join(said)}")


def test_a_drill_needs_consent_and_measures_the_cut_off_and_the_return(acme, filled, consent):
    acme.wait_ready()
    with pytest.raises(CommandFailed, match=f"{CONSENT}=allowed"):
        acme.cli("revoke-drill", "--yes")
    consent()
    words = acme.cli_words("revoke-drill", "--yes", "--timeout", "3m", "--output", "json")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as drill:
        try:
            wait_until_said(drill, "The clock runs")
            acme.simulator.set_state(acme.key, "Disabled")
            wait_until_said(drill, "Cut off after")
            acme.simulator.set_state(acme.key, "Enabled")
            told, _ = drill.communicate(timeout=240)
        finally:
            drill.kill()
    report = json.loads(told)
    assert drill.returncode == 0 and report["cutOffReason"] == "KeyRefused"
    assert (report["keyArn"], report["checkInterval"]) == (kms.key_arn(acme.key), "10s")
    assert report["cutOffSeconds"] > 0 and report["recoverySeconds"] > 0


def test_only_two_kms_actions_are_called_with_the_cluster_in_their_context(acme, filled):
    events = [event for event in acme.simulator.log() if event.get("eventSource") == "kms.amazonaws.com"]
    ours = [event for event in events if acme.id in str(event)]
    assert {event["eventName"] for event in ours} <= {"GenerateDataKey", "Decrypt"}
    assert all(event["requestParameters"]["encryptionContext"]["vectorkeep:cluster"] == acme.id for event in ours)
    assert any(event["eventName"] == "Decrypt" for event in ours)

"""P3: CAs turn over, and nobody who is connected, or who trusts what was published, notices."""
from __future__ import annotations

import socket
import ssl

import pytest

from e2e.harness.installation import Client
from e2e.harness.load import Load, fill
from e2e.harness.shell import wait_for


def authorities(tenant) -> list[str]:
    """The CA certificates that are published to the customer."""
    end = "-----END CERTIFICATE-----"
    return [part.strip() + "\n" + end for part in tenant.connection()["ca.crt"].split(end) if part.strip()]


@pytest.fixture
def rotating(world):
    tenant = world.tenant("acme", "rotating", tls={"dnsNames": ["localhost"], "caOverlap": "1m"})
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    yield tenant
    tenant.delete()


def test_both_cas_turn_over_and_a_client_under_load_sees_no_error(world, rotating):
    (first,) = authorities(rotating)
    boot = world.cluster.get("-n", rotating.data_plane, "pod", "engine-0")["status"]["containerStatuses"][0]["containerID"]
    with Client(rotating) as access:
        fill(access.connect())
        load = Load(access, lambda: rotating.connection()["ca.crt"])
        load.start()
        try:
            rotating.cli("certificates", "--rotate-ca")
            wait_for("both CAs published", lambda: len(authorities(rotating)) == 2, 120)
            assert first in authorities(rotating)
            assert rotating.condition("CertificatesValid")["status"] == "True", "nothing is broken meanwhile"
            wait_for("the old CA dropped", lambda: len(authorities(rotating)) == 1, 900, 2)
            wait_for("the rest", lambda: rotating.condition("CertificatesValid").get("reason") == "Valid", 600, 2)
        finally:
            load.stop()
    (last,) = authorities(rotating)
    assert last != first
    assert load.failures == [] and load.searches > 100 and load.connections > 20, (load.searches, load.connections)
    after = world.cluster.get("-n", rotating.data_plane, "pod", "engine-0")["status"]["containerStatuses"][0]["containerID"]
    assert after == boot, "no engine was restarted"
    with Client(rotating) as access:
        assert access.connect().list_collections() == ["rows"]
        old = ssl.create_default_context(cadata=first)
        with socket.create_connection(("127.0.0.1", access.forward.port), 10) as plain:
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(plain, server_hostname="localhost")

"""P3: CAs turn over, and nobody who is connected, or who trusts what was published, notices."""
from __future__ import annotations

import socket
import ssl

import pytest

from e2e.harness.installation import OPERATOR_NAMESPACE, Client
from e2e.harness.load import Load, fill
from e2e.harness.shell import wait_for


def authorities(tenant) -> list[str]:
    """The CA certificates that are published to the customer."""
    end = "-----END CERTIFICATE-----"
    return [part.strip() + "\n" + end for part in tenant.connection()["ca.crt"].split(end) if part.strip()]


def internal_authority(world, tenant) -> str:
    """The certificate of the CA that engine and operator know each other by."""
    secret = world.cluster.get("-n", OPERATOR_NAMESPACE, "secret", f"ca-internal-{tenant.id}")
    return secret["data"]["tls.crt"]


@pytest.fixture(scope="module")
def short_lived(world):
    """A cluster whose serving CA lives for ten minutes, so that every few of them another takes its place."""
    lives = {"duration": "5m", "caDuration": "10m", "caOverlap": "1m"}
    tenant = world.tenant("acme", "short-lived", tls={"dnsNames": ["localhost"]} | lives)
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    yield tenant
    tenant.delete()


@pytest.fixture
def rotating(world):
    tenant = world.tenant("acme", "rotating", tls={"dnsNames": ["localhost"], "caOverlap": "1m"})
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    yield tenant
    tenant.delete()


def container(world, tenant) -> str:
    """The container that the engine runs in."""
    return world.cluster.get("-n", tenant.data_plane, "pod", "engine-0")["status"]["containerStatuses"][0]["containerID"]


# The second test's cluster is made first: its CA grows old meanwhile.
def test_both_cas_turn_over_and_a_client_under_load_sees_no_error(world, short_lived, rotating):
    (first,), internal = authorities(rotating), internal_authority(world, rotating)
    boot = container(world, rotating)
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
    assert last != first and internal_authority(world, rotating) != internal
    assert load.failures == [] and load.searches > 100 and load.connections > 20, (load.searches, load.connections)
    assert container(world, rotating) == boot, "no engine was restarted"
    with Client(rotating) as access:
        assert access.connect().list_collections() == ["rows"]
        old = ssl.create_default_context(cadata=first)
        with socket.create_connection(("127.0.0.1", access.forward.port), 10) as plain:
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(plain, server_hostname="localhost")


def test_a_ca_that_lives_for_minutes_turns_over_by_its_age_and_a_client_under_load_sees_no_error(world, short_lived):
    tenant = short_lived
    first, boot = authorities(tenant)[0], container(world, tenant)
    with Client(tenant) as access:
        fill(access.connect())
        load = Load(access, lambda: tenant.connection()["ca.crt"])
        load.start()
        try:
            wait_for("both CAs published", lambda: len(authorities(tenant)) == 2, 600, 2)
            assert first in authorities(tenant)
            wait_for("the old CA dropped", lambda: len(authorities(tenant)) == 1, 600, 2)
            wait_for("the rest", lambda: tenant.condition("CertificatesValid").get("reason") == "Valid", 300, 2)
        finally:
            load.stop()
    assert authorities(tenant) != [first]
    assert load.failures == [] and load.searches > 100 and load.connections > 20, (load.searches, load.connections)
    assert container(world, tenant) == boot, "no engine was restarted"

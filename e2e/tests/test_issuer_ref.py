"""P3: what clients see can be signed by a cert-manager issuer, and nobody who trusts both signers notices the change."""
from __future__ import annotations

import socket
import ssl

import pytest

from e2e.harness.cert_manager import CertManager
from e2e.harness.installation import Client
from e2e.harness.load import Load, fill
from e2e.harness.shell import wait_for


@pytest.fixture(scope="module")
def cert_manager(world):
    with CertManager(world.cluster) as running:
        yield running


@pytest.fixture
def tenants(world, cert_manager):
    """Makes tenants that are gone before cert-manager is."""
    made = []

    def make(name: str, **tls: object):
        tenant = world.tenant("acme", name, tls={"dnsNames": ["localhost"]} | tls)
        tenant.create_key()
        tenant.apply()
        made.append(tenant)
        return tenant

    yield make
    for tenant in made:
        tenant.delete()


def published(tenant) -> str:
    return tenant.connection()["ca.crt"].strip()


def shown(access: Client) -> bytes:
    """The certificate that a client sees that trusts what `access` trusts."""
    context = ssl.create_default_context(cafile=str(access.ca))
    with socket.create_connection(("127.0.0.1", access.forward.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.getpeercert(binary_form=True)


def valid(tenant) -> str:
    return tenant.condition("CertificatesValid").get("reason", "")


def test_a_cluster_under_load_moves_to_an_issuer_and_back_and_no_client_sees_an_error(world, cert_manager, tenants):
    tenant = tenants("corporate")
    tenant.wait_ready()
    own = published(tenant)
    issuer = cert_manager.cluster_issuer("corporate").strip()
    both = f"{own}\n{issuer}\n"
    with Client(tenant) as access:
        access.ca.write_text(both)
        fill(access.connect())
        load = Load(access, lambda: both)
        load.start()
        try:
            tenant.patch({"tls": {"issuerRef": {"name": "corporate"}}})
            wait_for("the issuer's CA published", lambda: published(tenant) == issuer, 400, 2)
            wait_for("the condition", lambda: valid(tenant) == "IssuedByCertManager", 60)
            first = shown(access)

            # cert-manager repairs its secret with a new certificate; the CA stays.
            world.cluster.kubectl("-n", tenant.data_plane, "delete", "secret", "engine-serving-tls")
            wait_for("the next certificate", lambda: shown(access) != first, 400, 2)
            assert published(tenant) == issuer

            tenant.patch({"tls": {"issuerRef": None}})
            wait_for("the CA of before published again", lambda: published(tenant) == own, 400, 2)
            wait_for("the condition", lambda: valid(tenant) == "Valid", 60)
        finally:
            load.stop()
        access.ca.write_text(own)
        assert access.connect().list_collections() == ["rows"]
        shown(access)
    assert load.failures == [] and load.searches > 50 and load.connections > 5, (load.searches, load.connections)
    assert not world.cluster.exists("-n", tenant.data_plane, "certificates.cert-manager.io", "engine-serving-tls")


def test_a_new_cluster_waits_for_its_issuer_and_says_what_to_do(world, cert_manager, tenants):
    tenant = tenants("waiting", issuerRef={"name": "missing"})
    wait_for("the wait", lambda: tenant.condition("Ready").get("reason") == "WaitingForIssuer", 120)
    message = tenant.condition("CertificatesValid")["message"]
    assert "ClusterIssuer missing" in message and "check that it exists and is Ready" in message
    assert not world.cluster.exists("-n", "acme", "secret", "waiting-connection"), "nothing to trust is given away"

    issuer = cert_manager.cluster_issuer("late").strip()
    tenant.patch({"tls": {"issuerRef": {"name": "late"}}})
    tenant.wait_ready()
    assert published(tenant) == issuer
    with Client(tenant) as access:
        assert access.connect().list_collections() == []

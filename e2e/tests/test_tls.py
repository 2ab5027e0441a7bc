"""P3: TLS 1.3 only, verified with its names; credentials are checked."""
from __future__ import annotations

import socket
import ssl

import pytest
from pymilvus import MilvusException

from e2e.harness import pki
from e2e.harness.installation import Client
from e2e.harness.shell import wait_for


@pytest.fixture(scope="module")
def access(acme):
    with Client(acme) as client:
        yield client


def handshake(access: Client, name: str = "localhost", ca: str | None = None, newest: ssl.TLSVersion | None = None) -> str | None:
    context = ssl.create_default_context(cafile=str(access.ca)) if ca is None else ssl.create_default_context(cadata=ca)
    context.set_alpn_protocols(["h2"])
    if newest:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = newest
    access.forward.ensure()
    with socket.create_connection(("127.0.0.1", access.forward.port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname=name) as tls:
            return tls.version()


def test_tls_1_3_is_accepted(access):
    assert handshake(access) == "TLSv1.3"


def test_the_service_name_is_in_the_certificate(access, acme):
    assert handshake(access, name=f"engine.{acme.data_plane}.svc.cluster.local") == "TLSv1.3"


def test_tls_1_2_is_refused(access):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(access, newest=ssl.TLSVersion.TLSv1_2)


def test_another_ca_is_not_trusted(access):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(access, ca=pki.issue("localhost").ca)


def test_another_name_is_not_in_the_certificate(access):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(access, name="engine.somewhere.else")


def test_plaintext_is_refused(access):
    access.forward.ensure()
    with socket.create_connection(("127.0.0.1", access.forward.port), timeout=10) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        try:
            answer = raw.recv(1024)
        except ConnectionError:
            answer = b""
    # At most a TLS alert (type 21), never a word of HTTP.
    assert answer[:1] in (b"", b"\x15")


def test_a_wrong_password_is_refused(access):
    with pytest.raises(MilvusException) as refused:
        access.connect(token="root:wrong-password").list_collections()
    assert refused.value.code == 1400


def test_the_right_password_is_accepted(access):
    assert access.connect().list_collections() == []


@pytest.fixture
def guarded(world):
    tenant = world.tenant("acme", "guarded", tls={"dnsNames": ["localhost"], "clientAuth": "Required"})
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    wait_for("a certificate to show", lambda: "client.crt" in tenant.connection(), 60)
    yield tenant
    tenant.delete()


def test_where_it_is_required_only_a_client_with_the_given_certificate_connects(guarded, tmp_path):
    with Client(guarded) as access:
        # First who is refused: pymilvus shares a connection among the clients of one address, whatever they show.
        without = {"ca_pem_path": "", "server_pem_path": str(access.ca), "timeout": 5}
        with pytest.raises(MilvusException):
            access.connect(**without).list_collections()
        stranger = pki.issue("stranger")
        for name, text in (("crt", stranger.certificate), ("key", stranger.key)):
            (tmp_path / name).write_text(text)
        wrong = {"client_pem_path": str(tmp_path / "crt"), "client_key_path": str(tmp_path / "key"), "timeout": 5}
        with pytest.raises(MilvusException):
            access.connect(**wrong).list_collections()
    # Through a new port-forward: one can end with a client whose connection is reset.
    with Client(guarded) as access:
        with pytest.raises(MilvusException) as refused:
            access.connect(token="root:wrong-password").list_collections()
        assert refused.value.code == 1400, "a certificate takes no password's place"
        client = access.connect()
        client.create_collection("rows", dimension=4)
        assert client.list_collections() == ["rows"]

    printed = guarded.cli("connect", "--ca-file", tmp_path / "ca.crt")
    assert f'client_pem_path="{tmp_path}/guarded-client.crt"' in printed and "server_pem_path" not in printed
    assert "client (clients show it)" in guarded.cli("certificates")

    guarded.patch({"tls": {"clientAuth": "None"}})
    wait_for("the certificate to be taken back", lambda: "client.crt" not in guarded.connection(), 60)

    def connects_without() -> bool:
        with Client(guarded) as access:
            return access.connect(timeout=5).list_collections() == ["rows"]

    wait_for("clients without a certificate", connects_without, 240, 2)

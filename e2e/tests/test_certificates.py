"""P3: CAs turn over, and nobody who is connected, or who trusts what was published, notices."""
from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from e2e.harness.installation import Client
from e2e.harness.shell import wait_for

PAUSE_SECONDS = 0.25


class Load(threading.Thread):
    """A client that goes on with the connection that it has, and others that connect anew with the CAs in the secret."""

    def __init__(self, tenant, access: Client) -> None:
        super().__init__(daemon=True)
        self._tenant, self._port, self._client = tenant, access.forward.port, access.connect()
        self._end = threading.Event()
        self.searches, self.connections = 0, 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._end.is_set():
            try:
                assert self._client.search("rows", [[1.0, 2.0, 3.0, 7.0]], limit=1)[0][0]["id"] == 7
                self.searches += 1
                if self.searches % 8 == 0:
                    self._connect_anew()
            except Exception as error:  # whatever a client may see is a failure of the promise
                self.failures.append(f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_SECONDS)

    def _connect_anew(self) -> None:
        context = ssl.create_default_context(cadata=self._tenant.connection()["ca.crt"])
        with socket.create_connection(("127.0.0.1", self._port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost"):
                self.connections += 1

    def stop(self) -> None:
        self._end.set()
        self.join(60)


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
        client = access.connect()
        client.create_collection("rows", dimension=4, metric_type="L2")
        client.insert("rows", [{"id": row, "vector": [1.0, 2.0, 3.0, row]} for row in range(50)])
        load = Load(rotating, access)
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

"""Clients' certificates: who has to show one, and whose are good."""

import base64
import datetime
import socket
import ssl
import time
from pathlib import Path

import grpc
import pytest
from pymilvus import MilvusException
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from conftest import Secrets, assert_clean_log
from engine_process import ConfiguredEngine
from pki import CLIENT, SERVER, Authority

pytestmark = pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) > 1, reason="an engine of a cluster refuses to run where memory is swapped"
)

MODES = ["none", "optional", "required"]
# How gRPC tells of a connection that ends in its handshake, or right behind it.
REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
# The engine looks at its files every five seconds.
RELOAD_SECONDS = 60


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    started = {mode: ConfiguredEngine(tmp_path_factory.mktemp(mode) / "data", mode).start() for mode in MODES}
    yield started
    for engine in started.values():
        engine.stop()
        assert_clean_log(engine, Secrets({engine.PASSWORD}))


def call(engine, identity, token=None):
    """The code of the answer to a client that shows `identity`."""
    metadata = [("authorization", base64.b64encode((token or engine.token).encode()).decode())]
    with grpc.secure_channel(f"localhost:{engine.port}", engine.credentials_of(identity)) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        return stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=metadata, timeout=10).status.code


def is_refused(engine, identity) -> bool:
    """Whether the connection is. Any answer at all would be one too many."""
    try:
        call(engine, identity)
    except grpc.RpcError as error:
        assert error.code() in REFUSED, error
        return True
    return False


def wait_until(what, condition):
    deadline = time.monotonic() + RELOAD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


@pytest.mark.parametrize("mode", MODES)
def test_a_good_certificate_is_accepted_everywhere(engines, mode):
    assert call(engines[mode], engines[mode].identity) == 0


@pytest.mark.parametrize("mode", MODES)
def test_only_where_one_is_required_nobody_connects_without(engines, mode):
    engine = engines[mode]
    if mode == "required":
        assert is_refused(engine, None)
    else:
        assert call(engine, None) == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_another_ca_signed_is_refused_where_anything_is_asked_for(engines, mode):
    stranger = Authority("serving CA").sign("client", CLIENT)
    if mode == "none":
        assert call(engines[mode], stranger) == 0
    else:
        assert is_refused(engines[mode], stranger)


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_servers_certificate_is_none_for_clients(engines, mode):
    engine = engines[mode]
    assert is_refused(engine, engine.authority.sign("localhost", SERVER))


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_one_that_has_ended_is_refused(engines, mode):
    engine = engines[mode]
    assert is_refused(engine, engine.authority.sign("client", CLIENT, datetime.timedelta(hours=-1)))


def test_an_unmodified_pymilvus_client_shows_its_certificate(engines):
    engine = engines["required"]
    # First: pymilvus shares a connection among the clients of one address, whatever they show.
    with pytest.raises(MilvusException):
        engine.client(timeout=3).list_databases()
    files = {
        "ca_pem_path": str(engine.client_file("ca.crt")),
        "client_pem_path": str(engine.client_file("client.crt")),
        "client_key_path": str(engine.client_file("client.key")),
        "server_pem_path": "",
    }
    client = engine.client(**files)
    assert client.list_databases() == ["default"]
    client.close()


def test_a_certificate_takes_no_passwords_place(engines):
    assert call(engines["required"], engines["required"].identity, token="root:wrong") == 1400


def session_after_an_answer(engine) -> ssl.SSLSession:
    """What a client could resume its session with."""
    context = ssl.create_default_context(cafile=str(engine.client_file("ca.crt")))
    context.load_cert_chain(engine.client_file("client.crt"), engine.client_file("client.key"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", engine.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            assert connection.recv(9)
            return connection.session


def test_no_session_is_resumed_past_a_certificate(engines):
    assert session_after_an_answer(engines["none"]).has_ticket
    for mode in ("optional", "required"):
        assert not session_after_an_answer(engines[mode]).has_ticket, mode


def test_a_ca_counts_as_soon_as_it_is_known_and_no_longer_than_that(tmp_path):
    engine = ConfiguredEngine(tmp_path / "data", "required").start()
    try:
        old, new = engine.authority, Authority("the next CA")
        newcomer = new.sign("client", CLIENT)
        leaf = old.sign("localhost", SERVER)
        assert is_refused(engine, newcomer)
        engine.present(leaf, old.certificate + new.certificate)
        wait_until("the next CA is not known", lambda: not is_refused(engine, newcomer))
        assert call(engine, engine.identity) == 0
        engine.present(leaf, new.certificate)
        wait_until("the old CA is still trusted", lambda: is_refused(engine, engine.identity))
        assert call(engine, newcomer) == 0
    finally:
        engine.stop()


def test_an_issuer_that_names_no_ca_serves_where_no_certificate_is_asked_for(tmp_path):
    engine = ConfiguredEngine(tmp_path / "data", "none")
    engine.present(engine.authority.sign("localhost", SERVER), None)
    engine.start()
    try:
        assert call(engine, None) == 0
    finally:
        engine.stop()


def test_without_a_ca_to_judge_by_nobody_is_let_in(tmp_path):
    engine = ConfiguredEngine(tmp_path / "data", "required")
    engine.present(engine.authority.sign("localhost", SERVER), None)
    engine.start(wait=False)
    assert engine.process.wait(60) != 0
    assert "ca.crt" in engine.tail()

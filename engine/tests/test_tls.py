"""Only TLS 1.3 with 256-bit suites, and only under the right name and CA."""

import base64
import socket
import ssl

import grpc
import pytest
from pymilvus import MilvusException
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc


def context(engine, **changes) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(engine.client_file("ca.crt")))
    made.set_alpn_protocols(["h2"])
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def handshake(engine, context, name="localhost") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", engine.port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def call(engine, channel):
    metadata = [("authorization", base64.b64encode(engine.token.encode()).decode())]
    request = milvus_pb2.ListDatabasesRequest()
    return milvus_pb2_grpc.MilvusServiceStub(channel).ListDatabases(request, metadata=metadata, timeout=10)


def test_the_handshake_is_tls_1_3_with_a_256_bit_suite(engine):
    with handshake(engine, context(engine)) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.cipher()[0] in ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
        assert connection.selected_alpn_protocol() == "h2"


def test_tls_1_2_is_refused(engine):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(engine, context(engine, maximum_version=ssl.TLSVersion.TLSv1_2))


def test_plaintext_is_refused(engine):
    with grpc.insecure_channel(f"localhost:{engine.port}") as channel, pytest.raises(grpc.RpcError):
        call(engine, channel)
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = plain.recv(4096)
    assert not answer.startswith(b"HTTP")


def test_an_unencrypted_pymilvus_client_gets_nothing(engine):
    with pytest.raises(MilvusException):
        engine.client(uri=f"http://localhost:{engine.port}", server_pem_path="", timeout=3).list_databases()


def test_a_client_with_another_ca_refuses_the_engine(engine, tmp_path_factory):
    from engine_process import Engine

    other = Engine(tmp_path_factory.mktemp("other") / "data").start()
    try:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(engine, context(other))
        with pytest.raises(MilvusException):
            engine.client(server_pem_path=str(other.client_file("ca.crt")), timeout=3).list_databases()
    finally:
        other.stop()


def test_a_client_that_expects_another_name_refuses_the_engine(engine):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(engine, context(engine), name="engine.example")
    credentials = grpc.ssl_channel_credentials(engine.client_file("ca.crt").read_bytes())
    options = [("grpc.ssl_target_name_override", "engine.example")]
    with grpc.secure_channel(f"localhost:{engine.port}", credentials, options) as channel, pytest.raises(grpc.RpcError):
        call(engine, channel)


def test_the_right_ca_and_name_are_accepted_the_same_way(engine):
    """The positive control of the refusals above."""
    credentials = grpc.ssl_channel_credentials(engine.client_file("ca.crt").read_bytes())
    with grpc.secure_channel(f"localhost:{engine.port}", credentials) as channel:
        assert call(engine, channel).status.code == 0


def test_the_private_keys_are_for_their_owner_only(engine):
    private = [path for path in (engine.folder / "dev").rglob("*") if path.is_file()] + [engine.client_file("token")]
    assert len(private) >= 6
    assert not [path for path in private if path.stat().st_mode & 0o077]


def test_garbage_does_not_disturb_the_engine(engine):
    for junk in (b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 1000, b""):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as plain:
            plain.sendall(junk)
    client = engine.client()
    assert client.list_databases() == ["default"]
    client.close()

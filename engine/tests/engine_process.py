"""The engine as a process of its own, as an application developer runs it."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2_grpc

from pki import CLIENT, SERVER, Authority, Leaf

# A start includes making the store, hashing the root password and replaying the log; on a busy machine that takes a while.
START_SECONDS = 120
STOP_SECONDS = 60
UNWANTED_LINE = re.compile(r'(^|\s)ERROR\s|"level":"ERROR"|panicked at|RUST_BACKTRACE|stack overflow')


def binary() -> Path:
    named = os.environ.get("VECTORKEEP_ENGINE")
    if named:
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target"))
    return target / "debug" / "vectorkeep-engine"


def next_patch() -> Path:
    """The engine as its next patch release would be, which knows one more file format."""
    return binary().parent / "examples" / "next_patch"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Engine:
    """One data folder and, at times, the process that serves it. Every start takes a new port."""

    def __init__(self, folder: Path, log: Path | None = None):
        self.folder = folder
        self.log = log or folder.with_name(folder.name + ".log")
        self.process: subprocess.Popen | None = None
        self.port = 0
        self.program = binary()

    def start(self, wait: bool = True) -> "Engine":
        self.port = free_port()
        command = self.command()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait_until_serving()
        return self

    def command(self) -> list:
        """What starts the process."""
        (self.folder / "client" / "uri").unlink(missing_ok=True)
        return [self.program, "dev", "--data-dir", self.folder, "--listen", f"127.0.0.1:{self.port}", "--memory-mib", "512"]

    def credentials(self) -> grpc.ChannelCredentials:
        """What a client trusts, and shows."""
        return grpc.ssl_channel_credentials(self.client_file("ca.crt").read_bytes())

    def wait_until_serving(self):
        """Until the engine answers a call with the right credentials."""
        deadline = time.monotonic() + START_SECONDS
        last = "no answer yet"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode}:\n{self.tail()}")
            if all((self.folder / "client" / name).exists() for name in ("uri", "token", "ca.crt")):
                try:
                    with self.stub() as stub:
                        status = stub.call("ListDatabases", timeout=10).status
                    if status.code == 0 or status.code == 1400:
                        return
                    last = f"{status.code}: {status.reason}"
                except grpc.RpcError as error:
                    last = str(error.code())
            time.sleep(0.05)
        raise AssertionError(f"the engine does not serve ({last}):\n{self.tail()}")

    def stop(self):
        """A graceful end, as Kubernetes asks for it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(STOP_SECONDS)
            self.process = None
            assert code == 0, f"the engine ended with {code}:\n{self.tail()}"

    def kill(self):
        """The worst end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            self.process = None

    def client_file(self, name: str) -> Path:
        return self.folder / "client" / name

    @property
    def uri(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def token(self) -> str:
        return self.client_file("token").read_text().strip()

    def client(self, **overrides) -> MilvusClient:
        arguments = {"uri": self.uri, "token": self.token, "server_pem_path": str(self.client_file("ca.crt"))}
        return MilvusClient(**(arguments | overrides))

    def stub(self, token: str | None = None, database: str = "") -> "Stub":
        return Stub(self, self.token if token is None else token, database)

    def peak_memory(self) -> int:
        """The most memory that the process has ever had, bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def unwanted_lines(self, allowed: re.Pattern | None = None) -> list[str]:
        """Errors and panics in the log, except for those that the test provoked."""
        lines = self.log.read_text(errors="replace").splitlines()
        unwanted = [line for line in lines if UNWANTED_LINE.search(line)]
        return [line for line in unwanted if allowed is None or not allowed.search(line)]


class ConfiguredEngine(Engine):
    """An engine as the operator runs it: by a configuration file, with certificates that somebody else makes."""

    PASSWORD = "Battery9Staple"
    CONFIGURATION = """
        cluster_id = "test"
        data_dir = "{folder}/store"
        memory_budget_bytes = 536870912
        [listen]
        client = "127.0.0.1:{port}"
        health = "127.0.0.1:0"
        admin = "127.0.0.1:0"
        [tls]
        serving_dir = "{folder}/serving"
        internal_dir = "{folder}/internal"
        operator_uri = "vectorkeep://test/operator"
        client_auth = "{client_auth}"
        [auth]
        root_password_file = "{folder}/password"
        [kms]
        check_interval_seconds = 10
        outage_grace_seconds = 600
        [kms.local]
        key_file = "{folder}/key"
    """

    def __init__(self, folder: Path, client_auth: str):
        super().__init__(folder)
        self.client_auth = client_auth
        self.authority = Authority("serving CA")
        self.identity = self.authority.sign("client", CLIENT)
        for directory in ("store", "serving", "internal", "client"):
            (folder / directory).mkdir(parents=True)
        self.present(self.authority.sign("localhost", SERVER), self.authority.certificate)
        internal = Authority("internal CA")
        self._write("internal", internal.sign("engine-0", SERVER), internal.certificate)
        (folder / "key").write_bytes(os.urandom(32))
        (folder / "password").write_text(self.PASSWORD)
        self.client_file("token").write_text(f"root:{self.PASSWORD}")
        self.client_file("ca.crt").write_bytes(self.authority.certificate)
        self.client_file("client.crt").write_bytes(self.identity.certificate)
        self.client_file("client.key").write_bytes(self.identity.key)
        self.client_file("uri").touch()

    def present(self, leaf: Leaf, authorities: bytes | None) -> None:
        """What the engine shows to clients, and by what it judges what they show."""
        self._write("serving", leaf, authorities)

    def _write(self, directory: str, leaf: Leaf, authorities: bytes | None) -> None:
        folder = self.folder / directory
        (folder / "tls.crt").write_bytes(leaf.certificate)
        (folder / "tls.key").write_bytes(leaf.key)
        if authorities is None:
            (folder / "ca.crt").unlink(missing_ok=True)
        else:
            (folder / "ca.crt").write_bytes(authorities)

    def command(self) -> list:
        file = self.folder / "engine.toml"
        file.write_text(self.CONFIGURATION.format(folder=self.folder, port=self.port, client_auth=self.client_auth))
        return [binary(), "serve", "--config", file]

    def credentials(self) -> grpc.ChannelCredentials:
        return self.credentials_of(self.identity)

    def credentials_of(self, identity: Leaf | None) -> grpc.ChannelCredentials:
        """What a client trusts, with another certificate to show, or none."""
        shown = (identity.key, identity.certificate) if identity else (None, None)
        return grpc.ssl_channel_credentials(self.client_file("ca.crt").read_bytes(), *shown)


class Stub:
    """The gRPC calls themselves: no retries, no checks on the client's side."""

    def __init__(self, engine: Engine, token: str, database: str):
        import base64

        options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.secure_channel(f"localhost:{engine.port}", engine.credentials(), options)
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)
        self.metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
        if database:
            self.metadata.append(("dbname", database))

    def call(self, method: str, request=None, timeout: float = 60):
        from pymilvus.grpc_gen import milvus_pb2

        if request is None:
            request = getattr(milvus_pb2, f"{method}Request")()
        return getattr(self.stub, method)(request, metadata=self.metadata, timeout=timeout)

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_):
        self.channel.close()

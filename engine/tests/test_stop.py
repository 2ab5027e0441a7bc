"""An engine that is told to stop serves open requests to their end, but no longer than its key may be used."""

import queue
import time
from pathlib import Path

import pytest
from pymilvus.grpc_gen import milvus_pb2

from conftest import Secrets, assert_clean_log
from engine_process import STOP_SECONDS, ConfiguredEngine

pytestmark = pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) > 1, reason="an engine of a cluster refuses to run where memory is swapped"
)


@pytest.fixture
def engine(tmp_path):
    engine = ConfiguredEngine(tmp_path / "data", "none")
    engine.CONFIGURATION = engine.CONFIGURATION.replace("check_interval_seconds = 10", "check_interval_seconds = 1")
    yield engine.start()
    engine.kill()


class OpenRequest:
    """A call whose message is still on its way."""

    def __init__(self, stub):
        self.messages = queue.Queue()
        call = stub.channel.stream_unary(
            "/milvus.proto.milvus.MilvusService/ListDatabases",
            request_serializer=milvus_pb2.ListDatabasesRequest.SerializeToString,
            response_deserializer=milvus_pb2.ListDatabasesResponse.FromString,
        )
        self.answer = call.future(iter(self.messages.get, None), metadata=stub.metadata, timeout=60)
        # Behind it on the same connection, and some time for both to be in work.
        assert stub.call("ListDatabases").status.code == 0
        time.sleep(0.2)

    def finish(self):
        self.messages.put(milvus_pb2.ListDatabasesRequest())
        self.messages.put(None)
        return self.answer.result()

    def abandon(self):
        self.messages.put(None)
        self.answer.cancel()


def test_an_open_request_is_served_to_its_end(engine):
    with engine.stub() as stub:
        request = OpenRequest(stub)
        engine.process.terminate()
        time.sleep(0.5)
        assert request.finish().status.code == 0
        assert engine.process.wait(STOP_SECONDS) == 0
    assert_clean_log(engine, Secrets({engine.PASSWORD}))


def test_a_key_that_is_refused_ends_the_process_even_if_a_request_is_open(engine):
    with engine.stub() as stub:
        request = OpenRequest(stub)
        engine.process.terminate()
        (engine.folder / "key").unlink()
        assert engine.process.wait(STOP_SECONDS) == 0
        request.abandon()
    assert "the keys are given up; the process ends at once" in engine.log.read_text()
    assert_clean_log(engine, Secrets({engine.PASSWORD}))

"""A full volume: writes are refused, reads go on, nothing acknowledged is lost, and room is all it takes to go on.

The sealed store lies on a file system of its own, which needs the right to mount one.
"""

import errno
import os
import subprocess
import time

import pytest
from pymilvus import DataType, MilvusException

from conftest import Secrets, assert_clean_log
from engine_process import Engine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")

DIM = 4
STORE_MIB = 48
IO_CODE = 1001
UNAVAILABLE_CODE = 2
PATIENCE_SECONDS = 120
# What the engine is expected to say about it.
ALLOWED = ("log refused a write", "log can't be opened yet")


@pytest.fixture
def engine(tmp_path):
    engine = Engine(tmp_path / "data")
    store = engine.folder / "store"
    store.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORE_MIB}m,mode=0700", "tmpfs", store], check=True)
    try:
        yield engine.start()
    finally:
        engine.kill()
        subprocess.run(["umount", store], check=True)


class Filler:
    """Takes all the room that is left, as somebody else's file would."""

    def __init__(self, engine: Engine):
        self.file = engine.folder / "store" / "filler"

    def __enter__(self):
        with self.file.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        return self

    def __exit__(self, *_):
        self.file.unlink()


def create(client, name: str):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 32})
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")


def insert(client, name: str, first: int, count: int):
    client.insert(name, [{"id": key, "vector": [float(key)] * DIM} for key in range(first, first + count)])


def ids(client, name: str) -> set[int]:
    return {row["id"] for row in client.query(name, filter="id >= 0", output_fields=["id"])}


def insert_until_refused(client, name: str, first: int) -> tuple[set[int], set[int]]:
    """Ids that were acknowledged, and those of the insert that was refused."""
    for step in range(100_000):
        batch = set(range(first + step * 10, first + step * 10 + 10))
        try:
            insert(client, name, min(batch), 10)
        except MilvusException as refused:
            assert refused.code == IO_CODE, refused
            assert "space" in str(refused), refused
            return set(range(first, min(batch))), batch
    raise AssertionError("a full disk refused nothing")


def insert_when_possible(client, name: str, first: int):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return insert(client, name, first, 10)
        except MilvusException as refused:
            # Refused by the log that failed, or prepared for it and too late.
            assert refused.code in (IO_CODE, UNAVAILABLE_CODE), refused
            assert time.monotonic() < deadline, f"writes are still refused: {refused}"
            time.sleep(0.2)


def test_a_full_disk_refuses_writes_only_and_room_is_all_it_takes(engine):
    client = engine.client()
    create(client, "c")
    insert(client, "c", 0, 10)
    process = engine.process.pid
    known = set(range(10))
    for first in (1_000, 1_000_000):
        with Filler(engine):
            acknowledged, in_doubt = insert_until_refused(client, "c", first)
            known |= acknowledged
            assert ids(client, "c") == known, "readers see what was acknowledged, and nothing else"
            near = client.search("c", data=[[3.0] * DIM], limit=1)[0]
            assert near[0]["id"] == 3
        insert_when_possible(client, "c", first * 10)
        known |= set(range(first * 10, first * 10 + 10))
        found = ids(client, "c")
        assert found in (known, known | in_doubt), "the refused batch is there wholly or not at all"
        known = found
    assert engine.process.poll() is None and engine.process.pid == process
    client.flush("c")
    engine.kill()
    engine.start()
    client = engine.client()
    assert ids(client, "c") == known
    client.close()
    engine.stop()
    refusals = [line for line in engine.unwanted_lines() if not any(allowed in line for allowed in ALLOWED)]
    assert not refusals, refusals


def test_an_engine_that_starts_on_a_full_disk_says_so_and_serves_once_there_is_room(engine):
    client = engine.client()
    create(client, "c")
    insert(client, "c", 0, 10)
    client.close()
    engine.kill()
    with Filler(engine):
        engine.start(wait=False)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with engine.stub() as stub:
                    status = stub.call("ListDatabases", timeout=10).status
                assert status.code != 0, "nothing can be served from a log that can't be opened"
                if status.code == IO_CODE and "space" in status.reason:
                    break
            except Exception as error:  # noqa: BLE001 - not listening yet
                status = error
            assert time.monotonic() < deadline, f"the engine does not say what is wrong: {status}"
            time.sleep(0.2)
    engine.wait_until_serving()
    client = engine.client()
    assert ids(client, "c") == set(range(10))
    insert(client, "c", 100, 10)
    client.close()
    engine.stop()
    assert_clean_log(engine, Secrets({engine.token.split(":", 1)[1]}))

"""kill -9 at any moment: what was acknowledged stays, and no request is half there.

Writers send batches over their own keys. Each knows what was acknowledged and the one request in flight when the engine
was killed. After the restart every writer's rows must be exactly its acknowledged state, with the request in flight either
wholly applied or not at all.
"""

import os
import random
import shutil
import threading
import time

import grpc
import numpy as np
import pytest
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from conftest import Secrets, assert_clean_log
from engine_process import Engine, Stub

ROUNDS = int(os.environ.get("VECTORKEEP_KILL_ROUNDS", "50"))
WRITERS = 4
KEYS_PER_WRITER = 60
BATCH = 6
DIM = 4
COLLECTION = "model"


class Writer(threading.Thread):
    """Writes until the engine dies under it."""

    def __init__(self, engine: Engine, number: int, state: dict[int, int], seed: int):
        super().__init__(daemon=True)
        self.engine = engine
        self.keys = range(number * KEYS_PER_WRITER, (number + 1) * KEYS_PER_WRITER)
        self.random = random.Random(seed)
        # key -> version of the row, as acknowledged
        self.state = dict(state)
        # what the request in flight would make of it
        self.pending: dict[int, int] | None = None
        self.acknowledged = 0
        self.refusals: list[str] = []
        self.flushes = number == 0

    def own(self, found: dict[int, int]) -> dict[int, int]:
        return {key: version for key, version in found.items() if key in self.keys}

    def run(self):
        try:
            with self.engine.stub() as stub:
                while True:
                    self.step(stub)
        except grpc.RpcError:
            pass

    def step(self, stub: Stub):
        keys = self.random.sample(self.keys, BATCH)
        version = self.random.getrandbits(31)
        action = self.random.choice(["insert", "upsert", "upsert", "delete", "delete by filter"])
        after = dict(self.state)
        if action == "insert":
            keys = [key for key in keys if key not in self.state]
            if not keys:
                return
            request = rows_request("Insert", keys, version)
            after.update(dict.fromkeys(keys, version))
        elif action == "upsert":
            request = rows_request("Upsert", keys, version)
            after.update(dict.fromkeys(keys, version))
        else:
            filter = f"id in {keys}"
            if action == "delete by filter":
                low = min(keys)
                keys = [key for key in self.keys if low <= key < low + BATCH]
                filter = f"{low} <= id < {low + BATCH} and id < {self.keys.stop}"
            request = milvus_pb2.DeleteRequest(collection_name=COLLECTION, expr=filter)
            for key in keys:
                after.pop(key, None)
        self.pending = after
        answer = stub.call(type(request).__name__.removesuffix("Request"), request)
        if answer.status.code == 0:
            self.state = after
            self.acknowledged += 1
        else:
            self.refusals.append(f"{action}: {answer.status.code} {answer.status.reason}")
        self.pending = None
        if self.flushes and self.random.random() < 0.1:
            stub.call("Flush", milvus_pb2.FlushRequest(collection_names=[COLLECTION]))


def rows_request(method: str, keys: list[int], version: int):
    request = getattr(milvus_pb2, f"{method}Request")(collection_name=COLLECTION, num_rows=len(keys))
    scalars = schema_pb2.ScalarField
    request.fields_data.add(field_name="id", type=DataType.INT64, scalars=scalars(long_data={"data": keys}))
    request.fields_data.add(field_name="version", type=DataType.INT64, scalars=scalars(long_data={"data": [version] * len(keys)}))
    values = [float(value) for key in keys for value in row_vector(key, version)]
    request.fields_data.add(
        field_name="vector", type=DataType.FLOAT_VECTOR, vectors=schema_pb2.VectorField(dim=DIM, float_vector={"data": values})
    )
    return request


def row_vector(key: int, version: int) -> np.ndarray:
    return np.array([key, version % 1000, version % 77, 1], dtype=np.float32)


def read(engine: Engine) -> dict[int, int]:
    client = engine.client()
    try:
        found = client.query(COLLECTION, filter="id >= 0", output_fields=["version", "vector"])
        assert client.query(COLLECTION, output_fields=["count(*)"])[0]["count(*)"] == len(found)
        for row in found:
            np.testing.assert_array_equal(np.float32(row["vector"]), row_vector(row["id"], row["version"]))
        rows = {row["id"]: row["version"] for row in found}
        assert len(rows) == len(found), "a key is there twice"
        if rows:
            near = client.search(COLLECTION, data=[[0.0] * DIM], limit=len(rows))[0]
            assert {hit["id"] for hit in near} == set(rows), "search and query see different rows"
        return rows
    finally:
        client.close()


@pytest.fixture
def engine(tmp_path):
    engine = Engine(tmp_path / "data").start()
    yield engine
    engine.kill()


def create(engine: Engine):
    client = engine.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("version", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 32})
    client.create_collection(COLLECTION, schema=schema, index_params=index, consistency_level="Strong")
    client.close()


def test_kill_nine_fifty_times_loses_nothing_and_leaves_nothing_half_done(engine):
    create(engine)
    chance = random.Random(4711)
    states: list[dict[int, int]] = [{} for _ in range(WRITERS)]
    acknowledged = in_flight = 0
    for round in range(ROUNDS):
        writers = write_until_killed(engine, states, seed=round, seconds=chance.uniform(0.02, 0.4))
        engine.start()
        found = read(engine)
        assert not violations(found, writers), f"round {round}"
        for number, writer in enumerate(writers):
            states[number] = writer.own(found)
            in_flight += writer.pending is not None and writer.pending != writer.state
            acknowledged += writer.acknowledged
    assert acknowledged > ROUNDS * WRITERS, "the writers wrote too little for this to prove anything"
    assert in_flight > ROUNDS // 4, "hardly a kill met a request in flight"
    engine.stop()
    engine.start()
    assert read(engine) == {key: version for state in states for key, version in state.items()}
    engine.stop()
    assert_clean_log(engine, Secrets({engine.token.split(":", 1)[1]}))


def write_until_killed(engine: Engine, states: list[dict[int, int]], seed: int, seconds: float) -> list[Writer]:
    writers = [Writer(engine, number, states[number], seed=seed * WRITERS + number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    engine.kill()
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()
        assert not writer.refusals, writer.refusals
    return writers


def violations(found: dict[int, int], writers: list[Writer]) -> list[str]:
    """Writers whose rows are neither as acknowledged nor as the request in flight would leave them."""
    wrong = []
    for number, writer in enumerate(writers):
        mine = writer.own(found)
        outcomes = [writer.state] if writer.pending is None else [writer.state, writer.pending]
        if mine not in outcomes:
            keys = sorted(key for key in {*mine, *writer.state} if mine.get(key) != writer.state.get(key))
            cells = [(key, mine.get(key), [outcome.get(key) for outcome in outcomes]) for key in keys]
            wrong.append(f"writer {number}: (key, found, allowed): {cells}")
    return wrong


def test_a_killed_engine_comes_back_with_its_catalogue(engine):
    """Collections, indexes, load states and the password survive; so does the state of a released collection."""
    create(engine)
    client = engine.client()
    client.create_collection("released", dimension=DIM)
    client.insert("released", [{"id": 1, "vector": [1.0] * DIM, "note": "kept"}])
    client.release_collection("released")
    client.create_collection("dropped", dimension=DIM)
    client.drop_collection("dropped")
    old = engine.token.split(":", 1)[1]
    client.update_password("root", old, "Another-pass-1")
    engine.kill()
    engine.start()
    client = engine.client(token="root:Another-pass-1")
    assert sorted(client.list_collections()) == [COLLECTION, "released"]
    assert str(client.get_load_state(COLLECTION)["state"]) == "Loaded"
    assert str(client.get_load_state("released")["state"]) == "NotLoad"
    assert client.describe_index(COLLECTION, "vector")["index_type"] == "HNSW"
    client.load_collection("released")
    assert client.query("released", filter="id == 1", output_fields=["note"])[0]["note"] == "kept"
    client.close()
    engine.stop()


def test_the_check_would_notice_acknowledged_writes_that_are_lost(engine, tmp_path):
    """The positive control: the same check after the folder was set back to what it was before the last writes."""
    create(engine)
    first = write_until_killed(engine, [{} for _ in range(WRITERS)], seed=1, seconds=0.5)
    shutil.copytree(engine.folder, tmp_path / "before")
    engine.start()
    found = read(engine)
    assert not violations(found, first)
    writers = write_until_killed(engine, [writer.own(found) for writer in first], seed=2, seconds=1)
    assert sum(writer.acknowledged for writer in writers) > 0
    shutil.rmtree(engine.folder)
    shutil.copytree(tmp_path / "before", engine.folder)
    engine.start()
    assert violations(read(engine), writers)

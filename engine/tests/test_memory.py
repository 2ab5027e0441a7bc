"""What does not fit into the memory budget is refused with Milvus' quota code, and takes nothing away from the rest."""

import pytest
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import milvus_pb2

import rows
from conftest import Secrets, assert_clean_log
from engine_process import Engine

QUOTA = 9
BUDGET_MIB = 16
DIM, COUNT = 256, 6000  # 6 MiB


class SmallEngine(Engine):
    def command(self) -> list:
        return [*super().command()[:-1], str(BUDGET_MIB)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = SmallEngine(tmp_path_factory.mktemp("small") / "data").start()
    yield engine
    engine.stop()
    assert_clean_log(engine, Secrets({engine.token.split(":", 1)[1]}))


@pytest.fixture(scope="module")
def filled(engine):
    client = engine.client()
    rows.quick(client, "filled", dim=DIM)
    for first in range(0, COUNT, 500):
        client.insert("filled", rows.simple_rows(500, first, dim=DIM))
    client.close()
    return "filled"


def refused_for_memory(call):
    with pytest.raises(MilvusException) as error:
        call()
    assert error.value.code == QUOTA, error.value


def test_a_message_counts_twice_as_it_arrives_and_as_it_is_understood(client, filled):
    # 8 MiB: the rows alone would fit beside those that are there.
    refused_for_memory(lambda: client.insert(filled, rows.simple_rows(8000, COUNT, dim=DIM)))
    assert client.query(filled, output_fields=["count(*)"])[0]["count(*)"] == COUNT
    again = client.upsert(filled, rows.simple_rows(500, dim=DIM))
    assert again["upsert_count"] == 500


@pytest.mark.parametrize("nulls", ["left out", "sent"])
def test_default_values_take_memory_before_they_are_filled_in(engine, client, name, nulls):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("text", DataType.VARCHAR, max_length=60_000, default_value="x" * 60_000)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(name, schema=schema)
    # 60 kB for each row of a few bytes: 1.2 GB.
    for count, code in [(20_000, QUOTA), (10, 0)]:
        request = milvus_pb2.InsertRequest(collection_name=name, num_rows=count)
        vectors = request.fields_data.add(type=DataType.FLOAT_VECTOR, field_name="vector").vectors
        vectors.dim = 2
        vectors.float_vector.data.extend([1.0] * 2 * count)
        if nulls == "sent":
            request.fields_data.add(type=DataType.VARCHAR, field_name="text", valid_data=[False] * count)
        before = engine.peak_memory()
        with engine.stub() as stub:
            assert stub.call("Insert", request).status.code == code
        assert engine.peak_memory() - before < 2**27
    client.drop_collection(name)


def test_a_query_whose_answer_does_not_fit_is_refused_and_smaller_ones_are_answered(client, filled):
    query = lambda **options: client.query(filled, filter="id >= 0", **options)
    for _ in range(3):
        refused_for_memory(lambda: query(output_fields=["vector"]))
        # So much that it would not fit if the refused one had kept anything.
        assert len(query(output_fields=["vector"], limit=3500)) == 3500
    assert len(query(output_fields=["id"])) == COUNT
    assert query(output_fields=["count(*)"])[0]["count(*)"] == COUNT


def test_a_search_whose_answer_does_not_fit_is_refused_and_smaller_ones_are_answered(client, filled):
    search = lambda limit: client.search(filled, data=[[1.0] * DIM] * 20, limit=limit, output_fields=["vector"])
    for _ in range(3):
        refused_for_memory(lambda: search(1000))
        assert [len(hits) for hits in search(100)] == [100] * 20


def test_a_full_cluster_is_still_read_and_makes_room(client):
    rows.quick(client, "full", dim=DIM)
    first = 0
    for size in (400, 20):
        with pytest.raises(MilvusException) as error:
            for first in range(first, first + 1000 * size, size):
                client.insert("full", rows.simple_rows(size, first, dim=DIM))
        assert error.value.code == QUOTA
    # Less is left than this takes.
    assert len(client.query("full", filter="id >= 0", limit=100, output_fields=["vector"])) == 100
    assert len(client.search("full", data=[[1.0] * DIM], limit=10)[0]) == 10
    client.drop_collection("full")
    rows.quick(client, "full", dim=DIM)
    client.insert("full", rows.simple_rows(400, dim=DIM))
    client.drop_collection("full")

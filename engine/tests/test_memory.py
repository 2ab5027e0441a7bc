"""What does not fit into the memory budget is refused with Milvus' quota code, and takes nothing away from the rest."""

import pytest
from pymilvus import MilvusException

import rows
from conftest import assert_clean_log
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
    assert_clean_log(engine, {engine.token.split(":", 1)[1]})


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

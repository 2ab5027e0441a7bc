"""What an unmodified pymilvus program does in a session with the engine."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pymilvus import DataType, MilvusException

import rows
from rows import DIM

# Flushed data must answer as growing data does.
STATES = ["growing", "flushed", "mixed"]


def fill(client, name, sample, state):
    """Inserts rows so that they lie in memory, in segments, or half in each."""
    half = len(sample) // 2 if state == "mixed" else len(sample)
    client.insert(name, sample[:half])
    if state != "growing":
        client.flush(name)
    if sample[half:]:
        client.insert(name, sample[half:])


def ids(hits):
    return [hit["id"] for hit in hits]


# --- collections -------------------------------------------------------------------------------------------------------


def test_quick_set_up_makes_a_loaded_collection_with_dynamic_values(client, name):
    client.create_collection(name, dimension=DIM)
    described = client.describe_collection(name)
    assert described["collection_name"] == name
    assert [field["name"] for field in described["fields"]] == ["id", "vector"]
    assert described["fields"][0]["is_primary"] and described["fields"][0]["type"] == DataType.INT64
    assert described["fields"][1]["params"]["dim"] == DIM and described["fields"][1]["type"] == DataType.FLOAT_VECTOR
    assert described["enable_dynamic_field"] is True and described["auto_id"] is False
    assert str(client.get_load_state(name)["state"]) == "Loaded"
    assert client.list_indexes(name) == ["vector"]
    assert client.describe_index(name, "vector")["metric_type"] == "COSINE"


def test_collections_are_listed_and_dropped(client, name):
    assert not client.has_collection(name)
    client.create_collection(name, dimension=DIM)
    assert client.has_collection(name) and name in client.list_collections()
    client.drop_collection(name)
    assert not client.has_collection(name) and name not in client.list_collections()
    client.drop_collection(name)  # dropping what is not there is no error in Milvus


def test_a_dropped_name_can_be_used_again_and_starts_empty(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(5))
    client.flush(name)
    client.drop_collection(name)
    rows.quick(client, name, dim=4)
    assert client.query(name, filter="id >= 0") == []
    client.insert(name, rows.simple_rows(2, dim=4))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 2


def test_a_schema_is_described_as_it_was_declared(client, name):
    schema = client.create_schema(enable_dynamic_field=False, description="a shop")
    schema.add_field("sku", DataType.VARCHAR, is_primary=True, max_length=40, description="key")
    schema.add_field("price", DataType.DOUBLE, nullable=True)
    schema.add_field("stock", DataType.INT32, default_value=7)
    schema.add_field("extra", DataType.JSON)
    schema.add_field("image", DataType.FLOAT_VECTOR, dim=8)
    schema.add_field("words", DataType.FLOAT_VECTOR, dim=4)
    index = client.prepare_index_params()
    index.add_index("image", index_name="by_image", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 64})
    index.add_index("words", index_type="FLAT", metric_type="IP")
    index.add_index("price", index_name="by_price", index_type="STL_SORT")
    client.create_collection(name, schema=schema, index_params=index)

    described = client.describe_collection(name)
    fields = {field["name"]: field for field in described["fields"]}
    assert described["description"] == "a shop" and described["enable_dynamic_field"] is False
    assert list(fields) == ["sku", "price", "stock", "extra", "image", "words"]
    assert fields["sku"]["params"]["max_length"] == 40 and fields["sku"]["is_primary"] and fields["sku"]["description"] == "key"
    assert fields["price"].get("nullable") and fields["price"]["type"] == DataType.DOUBLE
    assert fields["stock"]["default_value"].int_data == 7
    assert fields["words"]["params"]["dim"] == 4
    assert sorted(client.list_indexes(name)) == ["by_image", "by_price", "words"]
    image = client.describe_index(name, "by_image")
    assert (image["index_type"], image["metric_type"], image["field_name"]) == ("HNSW", "L2", "image")
    assert (image["M"], image["efConstruction"]) == ("8", "64")
    assert client.describe_index(name, "by_price")["index_type"] == "STL_SORT"
    assert client.list_indexes(name, field_name="words") == ["words"]


def test_a_schema_without_indexes_is_indexed_and_loaded_later(client, name):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    assert str(client.get_load_state(name)["state"]) == "NotLoad" and client.list_indexes(name) == []
    client.insert(name, rows.simple_rows(10))
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    client.create_index(name, index)
    client.load_collection(name)
    assert str(client.get_load_state(name)["state"]) == "Loaded"
    assert len(client.search(name, data=[[1.0] * DIM], limit=3)[0]) == 3


def test_release_and_load_switch_reading_off_and_on(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(10))
    client.release_collection(name)
    assert str(client.get_load_state(name)["state"]) == "NotLoad"
    with pytest.raises(MilvusException) as error:
        client.search(name, data=[[1.0] * DIM])
    assert error.value.code == 101 and name in error.value.message
    client.insert(name, rows.simple_rows(5, first=10))  # writing needs no loading
    client.load_collection(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 15


def test_the_load_state_of_what_is_not_there_says_so(client, name):
    assert str(client.get_load_state(name)["state"]) == "NotExist"


def test_an_index_is_dropped_and_made_anew(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(10))
    client.release_collection(name)
    client.drop_index(name, "vector")
    assert client.list_indexes(name) == []
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_index(name, index)
    client.load_collection(name)
    sample = rows.simple_rows(10)
    hit = client.search(name, data=[sample[3]["vector"]], limit=1)[0][0]
    assert hit["id"] == 3 and hit["distance"] == pytest.approx(0, abs=1e-5)


# --- writing -----------------------------------------------------------------------------------------------------------


def test_an_acknowledged_insert_is_read_at_once(client, name):
    rows.quick(client, name)
    for first in range(0, 50, 10):
        result = client.insert(name, rows.simple_rows(10, first))
        assert result["insert_count"] == 10 and list(result["ids"]) == list(range(first, first + 10))
        assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == first + 10


@pytest.mark.parametrize("level", ["Strong", "Session", "Bounded", "Eventually"])
def test_every_consistency_level_reads_what_was_acknowledged(client, name, level):
    rows.quick(client, name, consistency_level=level)
    client.insert(name, rows.simple_rows(7))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 7


@pytest.mark.parametrize("state", STATES)
def test_upsert_replaces_and_adds(client, name, state):
    rows.quick(client, name)
    fill(client, name, rows.simple_rows(10, note="old"), state)
    result = client.upsert(name, rows.simple_rows(10, first=5, note="new"))
    assert result["upsert_count"] == 10
    found = client.query(name, filter="id >= 0", output_fields=["note"])
    assert {row["id"]: row["note"] for row in found} == {number: "old" if number < 5 else "new" for number in range(15)}
    assert len(found) == 15
    near = client.search(name, data=[rows.simple_rows(10, first=5)[0]["vector"]], limit=20, output_fields=["note"])[0]
    assert sorted(ids(near)) == list(range(15)) and near[0]["id"] == 5 and near[0]["entity"]["note"] == "new"


@pytest.mark.parametrize("state", STATES)
def test_deletes_by_key_and_by_filter_hide_rows_everywhere(client, name, state):
    rows.quick(client, name)
    fill(client, name, [row | {"group": row["id"] % 3} for row in rows.simple_rows(30)], state)
    assert client.delete(name, ids=[1, 2])["delete_count"] == 2
    assert client.delete(name, filter="group == 0")["delete_count"] == 10
    expected = [number for number in range(30) if number % 3 and number not in (1, 2)]
    assert sorted(row["id"] for row in client.query(name, filter="id >= 0")) == expected
    assert sorted(ids(client.search(name, data=[[1.0] * DIM], limit=30)[0])) == expected
    assert client.get(name, ids=[0, 1, 4]) and [row["id"] for row in client.get(name, ids=[0, 1, 4])] == [4]
    client.flush(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == len(expected)


def test_a_delete_by_filter_spares_what_no_longer_met_it_when_it_was_acknowledged(client, name):
    """Rows are updated while those that are not yet are deleted: every update survives, whichever came first."""
    rows.quick(client, name, dim=4)
    updates = [rows.simple_rows(1, first=key, dim=4, state="new") for key in range(0, 2000, 10)]
    for _ in range(2):
        client.upsert(name, rows.simple_rows(10_000, dim=4, state="old"))
        with ThreadPoolExecutor(4) as threads:
            updating = [threads.submit(client.upsert, name, update) for update in updates]
            # One after the other, so that some begin in the middle of the updates.
            while not all(update.done() for update in updating):
                client.delete(name, filter='state == "old"')
        assert all(update.result()["upsert_count"] == 1 for update in updating)
        left = client.query(name, filter="id >= 0", output_fields=["state"])
        assert {row["id"]: row["state"] for row in left} == dict.fromkeys(range(0, 2000, 10), "new")


def test_a_deleted_key_can_be_inserted_again(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(3, note="first"))
    client.delete(name, ids=[1])
    client.insert(name, [rows.simple_rows(1, first=1, note="second")[0]])
    client.flush(name)
    assert [row["note"] for row in client.get(name, ids=[1])] == ["second"]


def test_thousands_of_keys_fit_into_one_delete_and_one_get(client, name):
    rows.quick(client, name, dim=4)
    client.insert(name, rows.simple_rows(6000, dim=4))
    assert client.delete(name, ids=list(range(0, 5000)))["delete_count"] == 5000
    assert sorted(row["id"] for row in client.get(name, ids=list(range(6000)))) == list(range(5000, 6000))


def test_automatic_keys_are_unique_and_usable(client, name):
    rows.quick(client, name, auto_id=True)
    sample = [{"vector": vector.tolist(), "position": position} for position, vector in enumerate(rows.vectors(20))]
    keys = [key for part in (sample[:10], sample[10:]) for key in client.insert(name, part)["ids"]]
    assert len(set(keys)) == 20
    found = client.get(name, ids=keys, output_fields=["position"])
    assert {row["id"]: row["position"] for row in found} == dict(zip(keys, range(20)))


def test_automatic_varchar_keys_are_unique_and_usable(client, name):
    client.create_collection(name, dimension=DIM, id_type="string", auto_id=True, max_length=64, consistency_level="Strong")
    keys = list(client.insert(name, [{"vector": vector.tolist()} for vector in rows.vectors(5)])["ids"])
    assert len(set(keys)) == 5 and all(isinstance(key, str) for key in keys)
    assert sorted(row["id"] for row in client.get(name, ids=keys)) == sorted(keys)


@pytest.mark.parametrize("state", STATES)
def test_varchar_keys_work_everywhere(client, name, state):
    client.create_collection(name, dimension=DIM, id_type="string", max_length=100, consistency_level="Strong")
    keys = ["a", "b c", 'quote"d', "\u00fcml\u00e4ut", "\U0001f600", "0", "z" * 100, "tab\there"]
    sample = [{"id": key, "vector": vector.tolist()} for key, vector in zip(keys, rows.vectors(len(keys)))]
    fill(client, name, sample, state)
    assert sorted(row["id"] for row in client.get(name, ids=keys)) == sorted(keys)
    assert ids(client.search(name, data=[sample[4]["vector"]], limit=1)[0]) == ["\U0001f600"]
    client.delete(name, ids=["a", "b c"])
    client.upsert(name, [sample[2] | {"note": "again"}])
    left = {row["id"]: row.get("note") for row in client.query(name, filter='id != ""', output_fields=["note"])}
    assert left == {key: "again" if key == 'quote"d' else None for key in keys[2:]}


@pytest.mark.parametrize("state", STATES)
def test_nullable_fields_and_defaults_fill_what_is_not_given(client, name, state):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("note", DataType.VARCHAR, max_length=20, nullable=True)
    schema.add_field("level", DataType.INT32, default_value=5)
    schema.add_field("ratio", DataType.FLOAT, nullable=True, default_value=0.5)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    vectors = rows.vectors(4).tolist()
    sample = [
        {"id": 0, "vector": vectors[0]},
        {"id": 1, "vector": vectors[1], "note": None, "level": 9, "ratio": None},
        {"id": 2, "vector": vectors[2], "note": "here", "level": None, "ratio": 0.25},
        {"id": 3, "vector": vectors[3], "note": "", "level": 0},
    ]
    for row in sample[:2]:  # one by one: a batch must give the same fields in every row
        client.insert(name, [row])
    if state != "growing":
        client.flush(name)
    for row in sample[2:]:
        client.insert(name, [row])
    if state == "flushed":
        client.flush(name)
    found = {row["id"]: (row["note"], row["level"], row["ratio"]) for row in client.query(name, filter="id >= 0", output_fields=["*"])}
    assert found == {0: (None, 5, 0.5), 1: (None, 9, 0.5), 2: ("here", 5, 0.25), 3: ("", 0, 0.5)}
    assert [row["id"] for row in client.query(name, filter="note is null")] == [0, 1]
    assert [row["id"] for row in client.query(name, filter="note is not null")] == [2, 3]
    assert [row["id"] for row in client.query(name, filter='not (note == "here")')] == [3]


@pytest.mark.parametrize("state", STATES)
def test_values_of_every_type_come_back_as_they_went_in(client, name, state):
    rows.typed_collection(client, name)
    sample = rows.typed_rows(40)
    fill(client, name, sample, state)
    found = client.query(name, filter="id >= 0", output_fields=["*"])
    assert len(found) == len(sample)
    for row, expected in zip(sorted(found, key=lambda row: row["id"]), sample):
        row = dict(row)
        np.testing.assert_array_equal(np.asarray(row.pop("vector"), dtype=np.float32), np.float32(expected["vector"]))
        assert np.float32(row.pop("single")) == np.float32(expected["single"])
        assert row == {key: value for key, value in expected.items() if key not in ("vector", "single")}


def test_dynamic_values_of_every_shape_come_back(client, name):
    rows.quick(client, name)
    values = {"int": 2**53 + 1, "float": 0.1, "text": 'q"\u00fc\n', "yes": True, "list": [1, "a", [2]], "object": {"a": {"b": 1}}, "key with space": 1}
    client.insert(name, [rows.simple_rows(1)[0] | values, rows.simple_rows(1, first=1)[0]])
    client.flush(name)
    found = client.query(name, filter="id >= 0", output_fields=["*"])
    first, second = sorted((dict(row) for row in found), key=lambda row: row["id"])
    assert {key: first[key] for key in values} == values
    assert set(second) == {"id", "vector"}
    only = client.query(name, filter="id == 0", output_fields=["text"])
    assert [dict(row) for row in only] == [{"id": 0, "text": values["text"]}]


# --- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_scores_and_ranks_are_those_of_exact_search(client, name, metric, state):
    rows.quick(client, name, metric_type=metric)
    base, queries = rows.vectors(300), rows.vectors(5, seed=99)
    fill(client, name, [{"id": row, "vector": base[row].tolist()} for row in range(len(base))], state)
    for query, hits in zip(queries, client.search(name, data=queries.tolist(), limit=20)):
        expected = rows.nearest(metric, base, query, 20)
        assert ids(hits) == expected.tolist()
        np.testing.assert_allclose([hit["distance"] for hit in hits], rows.scores(metric, base, query)[expected], rtol=1e-4, atol=1e-5)


def fill_indexed(client, name, base):
    """A collection whose rows, the vectors of `base`, all lie in a graph index."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=base.shape[1])
    index = client.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 16, "efConstruction": 128})
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    for first in range(0, len(base), 2000):
        some = base[first : first + 2000].tolist()
        client.insert(name, [{"id": first + row, "vector": vector} for row, vector in enumerate(some)])
    client.flush(name)
    for _ in range(300):
        described = client.describe_index(name, "vector")
        if described["pending_index_rows"] == 0 and described["state"] == "Finished":
            break
        time.sleep(0.2)
    assert described["indexed_rows"] == len(base)


def test_a_graph_index_finds_nearly_all_that_exact_search_finds(client, name):
    dim = 32
    base, queries = rows.vectors(6000, dim), rows.vectors(20, dim, seed=5)
    fill_indexed(client, name, base)
    for filter, kept in [("", base), ("id % 2 == 0", base[::2]), ("id < 30", base[:30])]:
        step = 2 if "%" in filter else 1
        found = client.search(name, data=queries.tolist(), limit=10, filter=filter, search_params={"params": {"ef": 128}})
        right = [len(set(ids(hits)) & set((rows.nearest("L2", kept, query, 10) * step).tolist())) for query, hits in zip(queries, found)]
        assert all(len(hits) == 10 for hits in found)
        assert sum(right) / (10 * len(queries)) >= 0.95, filter


def test_sixteen_threads_search_an_index_at_the_same_time(client, name):
    fill_indexed(client, name, rows.vectors(5000, 8))
    queries = rows.vectors(100, 8, seed=5).tolist()

    def search(_):
        return [ids(hits) for hits in client.search(name, data=queries, limit=5, search_params={"params": {"ef": 512}})]

    expected = search(0)
    with ThreadPoolExecutor(16) as threads:
        assert all(found == expected for found in threads.map(search, range(48)))


@pytest.mark.parametrize("state", STATES)
def test_output_fields_are_those_that_were_asked_for(client, name, state):
    rows.typed_collection(client, name)
    sample = rows.typed_rows(12)
    fill(client, name, sample, state)
    assert set(client.query(name, filter="id == 1", output_fields=["text", "color"])[0]) == {"id", "text", "color"}
    assert set(client.query(name, filter="id == 1", output_fields=["*"])[0]) == set(sample[1])
    query = [sample[1]["vector"]]
    bare = client.search(name, data=query, limit=1)[0][0]
    assert bare["id"] == 1 and not bare["entity"]
    some = client.search(name, data=query, limit=1, output_fields=["text", "vector", "stock"])[0][0]["entity"]
    assert set(some) == {"text", "vector", "stock"} and some["text"] == "banana" and some["stock"] == 1
    np.testing.assert_array_equal(np.float32(some["vector"]), np.float32(sample[1]["vector"]))
    full = client.search(name, data=query, limit=1, output_fields=["*"])[0][0]["entity"]
    assert {"flag", "text", "meta", "vector", "color", "stock"} <= set(full)
    assert full["meta"] == sample[1]["meta"]


@pytest.mark.parametrize("state", STATES)
def test_pages_join_to_the_whole(client, name, state):
    rows.quick(client, name, metric_type="L2")
    fill(client, name, rows.simple_rows(45), state)
    whole = ids(client.search(name, data=[[0.5] * DIM], limit=40)[0])
    pages = [client.search(name, data=[[0.5] * DIM], limit=10, search_params={"offset": offset})[0] for offset in range(0, 40, 10)]
    assert [key for page in pages for key in ids(page)] == whole and len(set(whole)) == 40
    queried = [client.query(name, filter="id >= 0", limit=10, offset=offset) for offset in range(0, 50, 10)]
    assert [row["id"] for page in queried for row in page] == list(range(45))
    assert len(client.query(name, limit=7)) == 7


FILTERS = [
    ("id < 10", lambda row: row["id"] < 10),
    ("5 <= id < 8", lambda row: 5 <= row["id"] < 8),
    ("tiny > 1000 or id == 3", lambda row: row["id"] == 3),
    ("medium % 2 == 0 and small != -500", lambda row: row["medium"] % 2 == 0 and row["small"] != -500),
    ("large is null", lambda row: row["large"] is None),
    ("not (large > 0)", lambda row: row["large"] is not None and not row["large"] > 0),
    ("single == 0.3", lambda row: row["single"] == 0.3),
    ("double > 3.5", lambda row: row["double"] > 3.5),
    ("flag == true", lambda row: row["flag"] is True),
    ("text in ['apple', \"it's\"]", lambda row: row["text"] in ("apple", "it's")),
    ("text not in ['apple']", lambda row: row["text"] is not None and row["text"] != "apple"),
    ("text like '%an%'", lambda row: row["text"] is not None and "an" in row["text"]),
    (r"text like '%\%'", lambda row: row["text"] == "100%"),
    ("text == ''", lambda row: row["text"] == ""),
    ("meta['n'] == 4", lambda row: row["meta"] is not None and row["meta"]["n"] == 4),
    ("meta['deep']['x'] >= 10.5", lambda row: row["meta"] is not None and row["meta"]["deep"]["x"] >= 10.5),
    ("json_contains(meta['tags'], 2)", lambda row: row["meta"] is not None and 2 in row["meta"]["tags"]),
    ("color == 'red'", lambda row: row["color"] == "red"),
    ("$meta['color'] in ['red', 'blue']", lambda row: row["color"] != "green"),
    ("stock == 1", lambda row: row["stock"] == 1),
    ("stock == '2'", lambda row: row["stock"] == "2"),
    ("(color == 'red' || id > 30) && !(id == 33)", lambda row: (row["color"] == "red" or row["id"] > 30) and row["id"] != 33),
]


@pytest.mark.parametrize("state", STATES)
def test_filters_select_the_same_rows_in_query_and_search(client, name, state):
    rows.typed_collection(client, name)
    sample = rows.typed_rows(60)
    fill(client, name, sample, state)
    for filter, keeps in FILTERS:
        expected = [row["id"] for row in sample if keeps(row)]
        assert sorted(row["id"] for row in client.query(name, filter=filter)) == expected, filter
        assert sorted(ids(client.search(name, data=[[0.0] * DIM], limit=60, filter=filter)[0])) == expected, filter
        assert client.query(name, filter=filter, output_fields=["count(*)"])[0]["count(*)"] == len(expected), filter


def test_filters_take_parameters(client, name):
    rows.typed_collection(client, name)
    client.insert(name, rows.typed_rows(20))
    query = lambda filter, **values: sorted(row["id"] for row in client.query(name, filter=filter, filter_params=values))
    assert query("id in {keys}", keys=[3, 4, 99]) == [3, 4]
    assert query("text == {word}", word="it's") == [4, 11, 18]
    assert query("double < {limit} and flag == {yes}", limit=1.5, yes=True) == [0, 2, 4]
    assert ids(client.search(name, data=[[0.0] * DIM], filter="id == {key}", filter_params={"key": 7})[0]) == [7]
    client.delete(name, filter="text in {words}", filter_params={"words": ["apple", "banana"]})
    assert not query("text in {words}", words=["apple", "banana"])


@pytest.mark.parametrize("state", STATES)
def test_search_by_ids_is_search_by_the_vectors_of_these_rows(client, name, state):
    rows.quick(client, name, metric_type="L2")
    sample = rows.simple_rows(30)
    fill(client, name, sample, state)
    by_id = client.search(name, ids=[3, 20], limit=5)
    by_vector = client.search(name, data=[sample[3]["vector"], sample[20]["vector"]], limit=5)
    assert [ids(hits) for hits in by_id] == [ids(hits) for hits in by_vector]


def test_each_vector_field_is_searched_by_its_own_metric(client, name):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("a", DataType.FLOAT_VECTOR, dim=8)
    schema.add_field("b", DataType.FLOAT_VECTOR, dim=4)
    index = client.prepare_index_params()
    index.add_index("a", index_type="HNSW", metric_type="L2", params={"M": 16, "efConstruction": 64})
    index.add_index("b", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    a, b = rows.vectors(50, 8), rows.vectors(50, 4, seed=8)
    client.insert(name, [{"id": row, "a": a[row].tolist(), "b": b[row].tolist()} for row in range(50)])
    for field, metric, base in [("a", "L2", a), ("b", "IP", b)]:
        query = rows.vectors(1, base.shape[1], seed=11)[0]
        hits = client.search(name, data=[query.tolist()], anns_field=field, limit=10)[0]
        assert ids(hits) == rows.nearest(metric, base, query, 10).tolist()


def test_statistics_count_rows(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(25))
    client.flush(name)
    assert int(client.get_collection_stats(name)["row_count"]) == 25


def test_many_flushes_and_merges_change_no_answer(client, name):
    rows.quick(client, name, metric_type="L2")
    for first in range(0, 120, 10):
        client.insert(name, rows.simple_rows(10, first, note="old"))
        client.flush(name)
        client.delete(name, ids=[first])
        client.upsert(name, rows.simple_rows(1, first + 1, note="new"))
    for _ in range(2):
        found = {row["id"]: row["note"] for row in client.query(name, filter="id >= 0", output_fields=["note"])}
        assert found == {number: "new" if number % 10 == 1 else "old" for number in range(120) if number % 10}
        assert len(ids(client.search(name, data=[[0.1] * DIM], limit=200)[0])) == 108
        client.flush(name)


# --- databases and users -----------------------------------------------------------------------------------------------


def test_the_default_database_is_there(engine, client):
    assert client.list_databases() == ["default"]
    client.use_database("default")
    assert isinstance(client.list_collections(), list)
    with_name = engine.client(db_name="default")
    assert with_name.list_databases() == ["default"]
    with_name.close()


def test_the_server_tells_its_version_and_users(client):
    assert client.get_server_version()
    assert client.list_users() == ["root"]


def test_the_root_password_can_be_changed(engine, client, secrets):
    old, new = engine.token.split(":", 1)[1], "Canary-pass-4711"
    secrets.add(new)
    client.update_password("root", old, new)
    with pytest.raises(MilvusException) as error:
        engine.client().list_collections()
    assert error.value.code == 1400
    changed = engine.client(token=f"root:{new}")
    assert isinstance(changed.list_collections(), list)
    changed.update_password("root", new, old)
    changed.close()
    assert isinstance(engine.client().list_collections(), list)


def test_user_and_password_work_as_well_as_a_token(engine):
    client = engine.client(token="", user="root", password=engine.token.split(":", 1)[1])
    assert client.list_databases() == ["default"]
    client.close()


def test_json_values_are_json_and_not_text(client, name):
    rows.typed_collection(client, name)
    client.insert(name, rows.typed_rows(1))
    assert json.loads(json.dumps(client.get(name, ids=[0])[0]["meta"])) == {"n": 0, "tags": [0, "t"], "deep": {"x": 0.0}}

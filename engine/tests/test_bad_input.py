"""Bad input gets Milvus' own code and a message that says what and where, and leaves everything as it was."""

import queue
import struct

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

import rows
from engine_process import Stub
from rows import DIM

PARAMETER, COLLECTION_NOT_FOUND, NOT_LOADED, ILLEGAL_SCHEMA = 1100, 100, 101, 105
NOT_AUTHENTICATED, DATABASE_NOT_FOUND, UNSUPPORTED = 1400, 800, 3000
# What has a code of its own in Milvus may carry it instead of the general one.
SCHEMA_CODES = {PARAMETER, ILLEGAL_SCHEMA}
FIELD_CODES = {PARAMETER, 1700, 1701}


def refused(call, codes, *parts):
    """The call is refused with one of the codes, by a message that contains all the parts."""
    codes = {codes} if isinstance(codes, int) else codes
    with pytest.raises(MilvusException) as error:
        call()
    assert error.value.code in codes, f"{error.value.code}: {error.value.message}"
    for part in parts:
        assert part.lower() in error.value.message.lower(), f"{error.value.message!r} lacks {part!r}"


def status_refused(status, codes, *parts):
    codes = {codes} if isinstance(codes, int) else codes
    assert status.code in codes, f"{status.code}: {status.reason}"
    assert status.error_code != 0, "older clients look only at error_code"
    for part in parts:
        assert part.lower() in status.reason.lower(), f"{status.reason!r} lacks {part!r}"


@pytest.fixture
def stub(engine):
    with engine.stub() as stub:
        yield stub


@pytest.fixture(scope="module")
def shop(engine):
    """A typed collection without dynamic values, holding ten rows."""
    client = engine.client()
    rows.typed_collection(client, "shop", dynamic=False)
    client.insert("shop", [typed(row) for row in rows.typed_rows(10)])
    yield "shop"
    client.close()


def typed(row):
    return {key: value for key, value in row.items() if key not in ("color", "stock")}


@pytest.fixture(autouse=True)
def nothing_is_lost_or_half_written(request, engine):
    """After every refusal the shop holds what it held before."""
    if "shop" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("shop")
    client = engine.client()
    before = sorted((str(row) for row in client.query("shop", filter="id >= -1000", output_fields=["*"])))
    yield
    after = sorted((str(row) for row in client.query("shop", filter="id >= -1000", output_fields=["*"])))
    client.close()
    assert len(before) == 10 and after == before


# --- rows that don't fit, sent past the checks of the SDK --------------------------------------------------------------


def scalar(name, kind, **data):
    field = schema_pb2.FieldData(type=kind, field_name=name)
    for key, values in data.items():
        getattr(field.scalars, key).data.extend(values)
    return field


def vector(name, values, dim):
    field = schema_pb2.FieldData(type=DataType.FLOAT_VECTOR, field_name=name)
    field.vectors.dim = dim
    field.vectors.float_vector.data.extend(values)
    return field


def good_fields(count=2, first=1000):
    numbers = range(first, first + count)
    return {
        "id": scalar("id", DataType.INT64, long_data=numbers),
        "tiny": scalar("tiny", DataType.INT8, int_data=[1] * count),
        "small": scalar("small", DataType.INT16, int_data=[1] * count),
        "medium": scalar("medium", DataType.INT32, int_data=[1] * count),
        "single": scalar("single", DataType.FLOAT, float_data=[1.0] * count),
        "double": scalar("double", DataType.DOUBLE, double_data=[1.0] * count),
        "text": scalar("text", DataType.VARCHAR, string_data=["a"] * count),
        "meta": scalar("meta", DataType.JSON, json_data=[b"{}"] * count),
        "vector": vector("vector", [0.5] * DIM * count, DIM),
    }


def insert(stub: Stub, collection, fields, count=2, method="Insert"):
    request = getattr(milvus_pb2, f"{method}Request")(collection_name=collection, num_rows=count)
    request.fields_data.extend(fields.values())
    return stub.call(method, request).status


BAD_FIELDS = {
    "a vector of another dimension": ({"vector": vector("vector", [0.5] * 8 * 2, 8)}, FIELD_CODES, ["vector", "dim", "16"]),
    "fewer vectors than rows": ({"vector": vector("vector", [0.5] * DIM, DIM)}, FIELD_CODES, ["vector"]),
    "a vector with half a row": ({"vector": vector("vector", [0.5] * (DIM * 2 - 3), DIM)}, FIELD_CODES, ["vector"]),
    "NaN in a vector": ({"vector": vector("vector", [0.5] * (DIM * 2 - 1) + [float("nan")], DIM)}, FIELD_CODES, ["vector", "nan"]),
    "infinity in a vector": ({"vector": vector("vector", [float("inf")] + [0.5] * (DIM * 2 - 1), DIM)}, FIELD_CODES, ["vector", "inf"]),
    "NaN in a float field": ({"single": scalar("single", DataType.FLOAT, float_data=[1.0, float("nan")])}, FIELD_CODES, ["single", "nan"]),
    "a string that is too long": ({"text": scalar("text", DataType.VARCHAR, string_data=["a", "x" * 101])}, FIELD_CODES, ["text", "101", "100"]),
    "bytes count, not characters": ({"text": scalar("text", DataType.VARCHAR, string_data=["a", "\u00fc" * 51])}, FIELD_CODES, ["text", "102"]),
    "an int8 that overflows": ({"tiny": scalar("tiny", DataType.INT8, int_data=[1, 200])}, FIELD_CODES, ["tiny", "200"]),
    "an int16 that overflows": ({"small": scalar("small", DataType.INT16, int_data=[1, 40000])}, FIELD_CODES, ["small", "40000"]),
    "strings in an integer field": ({"medium": scalar("medium", DataType.VARCHAR, string_data=["a", "b"])}, FIELD_CODES, ["medium"]),
    "integers in a string field": ({"text": scalar("text", DataType.INT64, long_data=[1, 2])}, FIELD_CODES, ["text"]),
    "scalars in a vector field": ({"vector": scalar("vector", DataType.INT64, long_data=[1, 2])}, FIELD_CODES, ["vector"]),
    "text that is no JSON": ({"meta": scalar("meta", DataType.JSON, json_data=[b"{}", b"{'a': 1}"])}, FIELD_CODES, ["meta", "json"]),
    "JSON nested a hundred thousand times": ({"meta": scalar("meta", DataType.JSON, json_data=[b"{}", b"[" * 100_000])}, FIELD_CODES, ["meta"]),
    "JSON that is not UTF-8": ({"meta": scalar("meta", DataType.JSON, json_data=[b"{}", b'"\xff"'])}, FIELD_CODES, ["meta"]),
    "fewer keys than rows": ({"id": scalar("id", DataType.INT64, long_data=[1000])}, FIELD_CODES, ["id"]),
    "a missing field": ({"medium": None}, FIELD_CODES, ["medium"]),
    "a missing key": ({"id": None}, FIELD_CODES, ["id"]),
    "a missing vector": ({"vector": None}, FIELD_CODES, ["vector"]),
    "an unknown field": ({"extra": scalar("extra", DataType.INT64, long_data=[1, 2])}, FIELD_CODES, ["extra"]),
    "a field without values": ({"medium": schema_pb2.FieldData(type=DataType.INT32, field_name="medium")}, FIELD_CODES, ["medium"]),
}


@pytest.mark.parametrize("method", ["Insert", "Upsert"])
@pytest.mark.parametrize("case", BAD_FIELDS)
def test_rows_that_do_not_fit_are_refused_whole(stub, shop, case, method):
    change, codes, parts = BAD_FIELDS[case]
    fields = {key: value for key, value in (good_fields() | change).items() if value is not None}
    status_refused(insert(stub, shop, fields, method=method), codes, *parts)


def test_a_field_given_twice_is_refused(stub, shop):
    status_refused(insert(stub, shop, good_fields() | {"again": good_fields()["tiny"]}), FIELD_CODES, "tiny")


def test_no_rows_and_wrong_counts_are_refused(stub, shop):
    status_refused(insert(stub, shop, good_fields(), count=0), PARAMETER, "num_rows")
    status_refused(insert(stub, shop, good_fields(), count=3), FIELD_CODES)
    status_refused(insert(stub, shop, good_fields(), count=2**32 - 1), FIELD_CODES)


@pytest.mark.parametrize("method", ["Insert", "Upsert"])
def test_rows_that_are_only_announced_take_no_memory(engine, stub, name, method):
    client = engine.client()
    rows.quick(client, name, auto_id=True)
    before = engine.peak_memory()
    status_refused(insert(stub, name, {}, count=2**28, method=method), FIELD_CODES, "vector")
    two = {"vector": vector("vector", [0.5] * DIM * 2, DIM)}
    status_refused(insert(stub, name, two, count=2**28, method=method), FIELD_CODES, "vector")
    assert engine.peak_memory() - before < 2**26
    assert insert(stub, name, two, count=2).code == 0
    client.close()


def test_a_null_where_none_is_allowed_is_refused(stub, shop):
    fields = good_fields()
    fields["medium"].valid_data.extend([True, False])
    status_refused(insert(stub, shop, fields), FIELD_CODES, "medium")


@pytest.mark.parametrize("method", ["Insert", "Upsert"])
@pytest.mark.parametrize("field", ["id", "medium", "text"])
def test_values_that_are_said_to_be_there_and_are_not_are_refused(stub, shop, field, method):
    kind = good_fields()[field].type
    bare = schema_pb2.FieldData(type=kind, field_name=field, valid_data=[True, True])
    status_refused(insert(stub, shop, good_fields() | {field: bare}, method=method), FIELD_CODES, field)
    bare.scalars.SetInParent()
    status_refused(insert(stub, shop, good_fields() | {field: bare}, method=method), FIELD_CODES, field)
    some = schema_pb2.FieldData(type=kind, field_name=field, valid_data=[True, False])
    status_refused(insert(stub, shop, good_fields() | {field: some}, method=method), FIELD_CODES, field)


def test_a_field_may_be_sent_without_any_value_if_all_are_null(engine, stub, name):
    client = engine.client()
    rows.typed_collection(client, name, dynamic=False)
    nulls = schema_pb2.FieldData(type=DataType.VARCHAR, field_name="text", valid_data=[False, False])
    assert insert(stub, name, good_fields() | {"text": nulls}).code == 0
    assert [row["text"] for row in client.query(name, filter="text is null", output_fields=["text"])] == [None, None]
    client.close()


def test_a_key_twice_in_one_upsert_is_refused(stub, shop):
    fields = good_fields() | {"id": scalar("id", DataType.INT64, long_data=[1000, 1000])}
    status_refused(insert(stub, shop, fields, method="Upsert"), PARAMETER, "1000")


def test_good_rows_sent_the_same_way_are_accepted(engine, stub, name):
    """The positive control of the refusals above."""
    client = engine.client()
    rows.typed_collection(client, name, dynamic=False)
    assert insert(stub, name, good_fields()).code == 0
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 2
    client.close()


def test_the_errors_reach_users_of_the_sdk(client, shop):
    row = typed(rows.typed_rows(1, first=500)[0])
    refused(lambda: client.insert(shop, [row | {"text": "x" * 101}]), FIELD_CODES | {1}, "text")
    refused(lambda: client.insert(shop, [row | {"extra": 1}]), FIELD_CODES | {1}, "extra")
    refused(lambda: client.insert(shop, [row | {"vector": [1.0] * 3}]), FIELD_CODES | {1, 65535})
    refused(lambda: client.insert(shop, [{key: row[key] for key in row if key != "medium"}]), FIELD_CODES | {1}, "medium")


def test_automatic_keys_can_not_be_given(engine, stub, name):
    client = engine.client()
    rows.quick(client, name, auto_id=True)
    fields = {key: good_fields()[key] for key in ("id", "vector")}
    status_refused(insert(stub, name, fields), FIELD_CODES, "id")
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0
    client.close()


# --- collections, fields and databases that aren't there ---------------------------------------------------------------


def test_an_unknown_collection_is_named(client):
    for call in (
        lambda: client.describe_collection("nowhere"),
        lambda: client.insert("nowhere", rows.simple_rows(1)),
        lambda: client.query("nowhere", filter="id > 1"),
        lambda: client.search("nowhere", data=[[1.0] * DIM]),
        lambda: client.delete("nowhere", ids=[1]),
        lambda: client.flush("nowhere"),
        lambda: client.load_collection("nowhere"),
        lambda: client.release_collection("nowhere"),
        lambda: client.get_collection_stats("nowhere"),
    ):
        refused(call, COLLECTION_NOT_FOUND, "nowhere")


def test_a_collection_that_is_not_loaded_can_not_be_read(client, name):
    rows.quick(client, name)
    client.insert(name, rows.simple_rows(3))
    client.release_collection(name)
    refused(lambda: client.query(name, filter="id > 0"), NOT_LOADED, name)
    refused(lambda: client.search(name, data=[[1.0] * DIM]), NOT_LOADED, name)
    refused(lambda: client.delete(name, filter="id > 0 and id < 2"), NOT_LOADED, name)
    client.load_collection(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 3


def test_an_unknown_database_is_named(engine):
    refused(lambda: engine.client(db_name="elsewhere").list_collections(), DATABASE_NOT_FOUND, "elsewhere")
    with engine.stub(database="elsewhere") as stub:
        status_refused(stub.call("ShowCollections").status, DATABASE_NOT_FOUND, "elsewhere")


def test_an_unknown_partition_is_named(client, shop):
    refused(lambda: client.query(shop, filter="id > 1", partition_names=["nope"]), 200, "nope")
    refused(lambda: client.search(shop, data=[[1.0] * DIM], partition_names=["nope"]), 200, "nope")


def test_unknown_output_and_search_fields_are_named(client, shop):
    refused(lambda: client.query(shop, filter="id > 1", output_fields=["colour"]), FIELD_CODES, "colour")
    refused(lambda: client.search(shop, data=[[1.0] * DIM], output_fields=["colour"]), FIELD_CODES, "colour")
    refused(lambda: client.search(shop, data=[[1.0] * DIM], anns_field="text"), FIELD_CODES, "text")


# --- filters -----------------------------------------------------------------------------------------------------------

BAD_FILTERS = [
    ("id ==", ["end"]),
    ("id = 1", ["column 4", "=="]),
    ("(id == 1", [")"]),
    ("id == 1 or", ["end"]),
    ("colour == 'red'", ["colour", "column 1", "medium"]),
    ("text == 5", ["text", "string", "integer"]),
    ("id == 'a'", ["id", "integer", "string"]),
    ("vector == 1", ["vector"]),
    ("id in 5", ["list"]),
    ("id in [1, 'a']", ["column 11"]),
    ("text like 5", ["like"]),
    ("id", ["condition"]),
    ("id == {missing}", ["missing"]),
    ("text == 'abc", ["column 9"]),
    ("text_match(text, 'a')", ["text_match", "not supported"]),
    ("array_contains(meta, 1)", ["array_contains", "not supported"]),
    ("st_within(text, 'a')", ["st_within", "not supported"]),
    ("random_sample(0.1)", ["random_sample", "not supported"]),
    ("text =~ 'a'", ["=~", "not supported"]),
    ("(" * 10_000 + "id == 1" + ")" * 10_000, ["deep"]),
    ("\x00", ["column 1"]),
]


@pytest.mark.parametrize(("filter", "parts"), BAD_FILTERS, ids=[filter[:24] for filter, _ in BAD_FILTERS])
def test_a_wrong_filter_is_explained(client, shop, filter, parts):
    refused(lambda: client.query(shop, filter=filter), PARAMETER, *parts)
    refused(lambda: client.search(shop, data=[[1.0] * DIM], filter=filter), PARAMETER, *parts)
    refused(lambda: client.delete(shop, filter=filter), PARAMETER, *parts)


def test_a_query_for_everything_needs_a_limit(client, shop):
    refused(lambda: client.query(shop, filter=""), PARAMETER, "limit")


# --- searches ----------------------------------------------------------------------------------------------------------


def placeholder(values: bytes, kind=101) -> bytes:
    value = common_pb2.PlaceholderValue(tag="$0", type=kind, values=[values])
    return common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString()


def search_request(collection, group, **params):
    request = milvus_pb2.SearchRequest(collection_name=collection, nq=1, dsl_type=common_pb2.DslType.BoolExprV1)
    request.placeholder_group = group
    for key, value in ({"anns_field": "vector", "topk": "3", "params": "{}", "metric_type": "L2"} | params).items():
        request.search_params.add(key=key, value=value)
    return request


GOOD = struct.pack(f"<{DIM}f", *[0.5] * DIM)
BAD_SEARCHES = {
    "another dimension": (placeholder(GOOD[:-4]), {}, {PARAMETER}, ["dim"]),
    "half a number": (placeholder(GOOD[:-1]), {}, {PARAMETER}, []),
    "no vector": (b"", {}, {PARAMETER, 1101}, []),
    "bytes that are no message": (b"\xff\xff\xff", {}, {PARAMETER}, []),
    "another kind of vector": (placeholder(GOOD, kind=100), {}, {PARAMETER}, []),
    "NaN": (placeholder(GOOD[:-4] + struct.pack("<f", float("nan"))), {}, {PARAMETER}, ["nan"]),
    "no limit": (placeholder(GOOD), {"topk": "0"}, {PARAMETER}, ["topk", "0"]),
    "a negative limit": (placeholder(GOOD), {"topk": "-1"}, {PARAMETER}, ["-1"]),
    "a huge limit": (placeholder(GOOD), {"topk": "16385"}, {PARAMETER}, ["16384"]),
    "a limit in words": (placeholder(GOOD), {"topk": "many"}, {PARAMETER}, ["topk", "many"]),
    "a huge offset": (placeholder(GOOD), {"offset": "99999999999999"}, {PARAMETER}, ["offset"]),
    "more candidates than Milvus looks at": (placeholder(GOOD), {"ef": "32769"}, {PARAMETER}, ["ef", "32769", "32768"]),
    "candidates in JSON": (placeholder(GOOD), {"params": '{"ef": 1000000000000}'}, {PARAMETER}, ["ef", "32768"]),
    "no candidates": (placeholder(GOOD), {"ef": "0"}, {PARAMETER}, ["ef", "0"]),
    "another metric": (placeholder(GOOD), {"metric_type": "IP"}, {PARAMETER}, ["L2", "IP"]),
    "an unknown metric": (placeholder(GOOD), {"metric_type": "MANHATTAN"}, {PARAMETER}, ["MANHATTAN"]),
    "params that are no JSON": (placeholder(GOOD), {"params": "{"}, {PARAMETER}, ["JSON"]),
    "an unknown vector field": (placeholder(GOOD), {"anns_field": "nope"}, FIELD_CODES, ["nope"]),
    "grouping": (placeholder(GOOD), {"group_by_field": "medium"}, {UNSUPPORTED}, ["group_by_field"]),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_a_wrong_search_is_explained(stub, shop, case):
    group, params, codes, parts = BAD_SEARCHES[case]
    status_refused(stub.call("Search", search_request(shop, group, **params)).status, codes, *parts)


def test_a_right_search_sent_the_same_way_is_answered(stub, shop):
    answer = stub.call("Search", search_request(shop, placeholder(GOOD), ef="32768"))
    assert answer.status.code == 0 and len(answer.results.ids.int_id.data) == 3


def test_ids_of_rows_that_are_not_there_are_refused(client, shop):
    refused(lambda: client.search(shop, ids=[123456], limit=1), PARAMETER, "not exist")


def test_more_ids_than_a_search_may_have_are_refused_before_their_rows_are_looked_for(stub, shop):
    request = search_request(shop, b"")
    request.ids.int_id.data.extend([123456] * 16385)
    status_refused(stub.call("Search", request).status, PARAMETER, "nq", "16385")


# --- schemas and indexes -----------------------------------------------------------------------------------------------


def field(name, kind=DataType.INT64, **options):
    params = options.pop("params", {})
    made = schema_pb2.FieldSchema(name=name, data_type=kind, **options)
    for key, value in params.items():
        made.type_params.add(key=key, value=value)
    return made


KEY = lambda: field("id", is_primary_key=True)
VECTOR = lambda **params: field("vector", DataType.FLOAT_VECTOR, params={"dim": "8"} | params)
BAD_SCHEMAS = {
    "no key": ([VECTOR()], SCHEMA_CODES, ["primary key"]),
    "two keys": ([KEY(), field("b", is_primary_key=True), VECTOR()], SCHEMA_CODES, ["primary key"]),
    "a float key": ([field("id", DataType.FLOAT, is_primary_key=True), VECTOR()], SCHEMA_CODES, ["id"]),
    "no vector": ([KEY()], SCHEMA_CODES, ["vector"]),
    "a name twice": ([KEY(), field("a"), field("a"), VECTOR()], SCHEMA_CODES, ["a"]),
    "a bad name": ([KEY(), field("a-b"), VECTOR()], SCHEMA_CODES, ["a-b"]),
    "no name": ([KEY(), field(""), VECTOR()], SCHEMA_CODES, ["name"]),
    "a long name": ([KEY(), field("a" * 256), VECTOR()], SCHEMA_CODES, ["name"]),
    "no dimension": ([KEY(), field("vector", DataType.FLOAT_VECTOR)], SCHEMA_CODES, ["vector", "dim"]),
    "dimension 1": ([KEY(), VECTOR(dim="1")], SCHEMA_CODES, ["vector", "dim"]),
    "dimension 32769": ([KEY(), VECTOR(dim="32769")], SCHEMA_CODES, ["vector", "32768"]),
    "a dimension in words": ([KEY(), VECTOR(dim="eight")], SCHEMA_CODES, ["vector", "dim"]),
    "no length": ([KEY(), field("text", DataType.VARCHAR), VECTOR()], SCHEMA_CODES, ["text", "max_length"]),
    "a huge length": ([KEY(), field("text", DataType.VARCHAR, params={"max_length": "65536"}), VECTOR()], SCHEMA_CODES, ["text"]),
    "a nullable key": ([field("id", is_primary_key=True, nullable=True), VECTOR()], SCHEMA_CODES, ["nullable"]),
    "too many fields": ([KEY(), VECTOR()] + [field(f"f{number}") for number in range(70)], SCHEMA_CODES, ["64"]),
    "too many vectors": ([KEY()] + [field(f"v{n}", DataType.FLOAT_VECTOR, params={"dim": "8"}) for n in range(5)], SCHEMA_CODES, ["vector"]),
    "a default of another type": (
        [KEY(), field("a", default_value=schema_pb2.ValueField(string_data="x")), VECTOR()],
        SCHEMA_CODES,
        ["a", "default"],
    ),
    "a default that does not fit": (
        [KEY(), field("a", DataType.INT8, default_value=schema_pb2.ValueField(int_data=1000)), VECTOR()],
        SCHEMA_CODES,
        ["a", "default"],
    ),
    "a default that is too long": (
        [KEY(), field("a", DataType.VARCHAR, params={"max_length": "2"}, default_value=schema_pb2.ValueField(string_data="abc")), VECTOR()],
        SCHEMA_CODES,
        ["a", "default"],
    ),
    "an unknown type": ([KEY(), field("a", 77), VECTOR()], SCHEMA_CODES | {UNSUPPORTED}, ["a"]),
    "an array field": ([KEY(), field("a", DataType.ARRAY), VECTOR()], {UNSUPPORTED}, ["a", "Array"]),
    "a sparse vector": ([KEY(), field("a", DataType.SPARSE_FLOAT_VECTOR)], {UNSUPPORTED}, ["a"]),
    "a partition key": ([KEY(), field("a", is_partition_key=True), VECTOR()], {UNSUPPORTED}, ["a", "partition"]),
}


@pytest.mark.parametrize("case", BAD_SCHEMAS)
def test_an_illegal_schema_is_refused(stub, name, case):
    fields, codes, parts = BAD_SCHEMAS[case]
    schema = schema_pb2.CollectionSchema(name=name, fields=fields).SerializeToString()
    request = milvus_pb2.CreateCollectionRequest(collection_name=name, schema=schema, shards_num=1)
    status_refused(stub.call("CreateCollection", request), codes, *parts)
    assert name not in stub.call("ShowCollections").collection_names


@pytest.mark.parametrize("bad", ["", "1abc", "a-b", "a b", "a" * 256, "\u00fc"])
def test_an_illegal_collection_name_is_refused(stub, bad):
    schema = schema_pb2.CollectionSchema(name=bad, fields=[KEY(), VECTOR()]).SerializeToString()
    request = milvus_pb2.CreateCollectionRequest(collection_name=bad, schema=schema)
    status_refused(stub.call("CreateCollection", request), PARAMETER, "name")


def test_a_schema_that_is_no_message_is_refused(stub, name):
    request = milvus_pb2.CreateCollectionRequest(collection_name=name, schema=b"\xff\xfe\xfd")
    status_refused(stub.call("CreateCollection", request), SCHEMA_CODES, "schema")


def test_a_name_in_use_by_another_schema_is_refused(client, shop):
    refused(lambda: client.create_collection(shop, dimension=4), {PARAMETER, 65535, 1}, shop)


def test_wrong_indexes_are_refused(client, name):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(name, schema=schema)

    def index(field, **options):
        params = client.prepare_index_params()
        params.add_index(field, **options)
        return lambda: client.create_index(name, params)

    refused(index("nope", index_type="FLAT", metric_type="L2"), FIELD_CODES | {700}, "nope")
    refused(index("vector", index_type="FLAT", metric_type="MANHATTAN"), {PARAMETER, UNSUPPORTED}, "MANHATTAN")
    refused(index("vector", index_type="IVF_PQ", metric_type="L2"), {PARAMETER, UNSUPPORTED}, "IVF_PQ")
    refused(index("vector", index_type="HNSW", metric_type="L2", params={"M": 1_000_000}), PARAMETER, "M")
    refused(index("vector", index_type="HNSW", metric_type="L2", params={"M": "many"}), PARAMETER, "M")
    assert client.list_indexes(name) == []
    refused(lambda: client.load_collection(name), {700, 65535, PARAMETER}, "vector")
    assert client.describe_index(name, "nope") is None  # what the SDK makes of code 700


# --- credentials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["root:wrong-password", "nobody:x", "root", ":", "root:", "\u00fc:\u00fc"])
def test_wrong_credentials_are_refused_without_saying_which_part_is_wrong(engine, token):
    with engine.stub(token=token) as stub:
        for method in ("ShowCollections", "ListDatabases", "ListCredUsers"):
            status_refused(stub.call(method).status, NOT_AUTHENTICATED)
        wrong_user = stub.call("ShowCollections").status.reason
        assert "root" not in wrong_user and "nobody" not in wrong_user


def test_calls_without_credentials_are_refused(engine):
    with engine.stub(token="") as stub:
        status_refused(stub.call("ShowCollections").status, NOT_AUTHENTICATED)


class Unfinished:
    """An insert of which only the headers are sent."""

    def __init__(self, stub):
        self.messages = queue.Queue()
        call = stub.channel.stream_unary(
            "/milvus.proto.milvus.MilvusService/Insert",
            request_serializer=milvus_pb2.InsertRequest.SerializeToString,
            response_deserializer=milvus_pb2.MutationResult.FromString,
        )
        self.answer = call.future(iter(self.messages.get, None), metadata=stub.metadata, timeout=60)

    def __enter__(self):
        return self.answer

    def __exit__(self, *_):
        self.messages.put(None)
        self.answer.cancel()


@pytest.mark.parametrize("token", ["", "root", "root:wrong-password"])
def test_who_has_no_password_is_refused_before_a_message_arrives(engine, token):
    with engine.stub(token=token) as stub, Unfinished(stub) as answer:
        status_refused(answer.result(30).status, NOT_AUTHENTICATED)


def test_who_has_the_password_may_take_the_time_for_a_message(stub):
    """The positive control of the refusals above."""
    with Unfinished(stub) as answer, pytest.raises(grpc.FutureTimeoutError):
        answer.result(1)


def test_calls_without_a_password_take_small_messages_only(stub):
    client = lambda size: milvus_pb2.ConnectRequest(client_info=common_pb2.ClientInfo(sdk_type="x" * size))
    assert stub.call("Connect", client(1000)).status.code == 0
    status_refused(stub.call("Connect", client(100_000)).status, PARAMETER, "4096")


def test_the_sdk_is_told_about_a_wrong_password(engine, secrets):
    secrets.add("definitely-wrong")
    refused(lambda: engine.client(token="root:definitely-wrong").list_collections(), NOT_AUTHENTICATED)


def test_a_password_change_needs_the_old_password_and_a_good_new_one(engine, client, secrets):
    old = engine.token.split(":", 1)[1]
    secrets.update({"Never-used-1", "Wrong-old-1"})
    refused(lambda: client.update_password("root", "Wrong-old-1", "Never-used-1"), NOT_AUTHENTICATED)
    refused(lambda: client.update_password("root", old, "short"), PARAMETER, "password")
    refused(lambda: client.update_password("root", old, "x" * 100), PARAMETER, "password")
    again = engine.client()
    assert isinstance(again.list_collections(), list)
    again.close()


# --- what is not served ------------------------------------------------------------------------------------------------


def test_what_is_not_served_is_refused_by_name_and_not_ignored(client, shop, name):
    def bad_array():
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("list", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
        client.create_collection(name, schema=schema)

    refused(bad_array, UNSUPPORTED, "list")
    refused(lambda: client.search(shop, data=[[1.0] * DIM], search_params={"params": {"radius": 1.0}}), UNSUPPORTED, "radius")
    refused(lambda: client.search(shop, data=[[1.0] * DIM], group_by_field="medium"), UNSUPPORTED, "group_by_field")


def test_a_message_that_is_too_large_is_refused_and_the_engine_lives(client, shop):
    huge = [typed(row) | {"vector": np.zeros(DIM).tolist()} for row in rows.typed_rows(1)]
    huge[0]["meta"] = {"x": "y" * (80 << 20)}
    refused(lambda: client.insert(shop, huge, timeout=20), PARAMETER, "larger")
    assert client.query(shop, output_fields=["count(*)"])[0]["count(*)"] == 10

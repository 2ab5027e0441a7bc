"""The engine's .proto files say the same as the descriptors inside the installed pymilvus."""

from pathlib import Path

import pymilvus
import pytest
from google.protobuf.descriptor import FieldDescriptor
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

import proto_text

PROTO = Path(__file__).parent.parent / "proto" / "milvus"
FILES = {"common.proto": common_pb2, "schema.proto": schema_pb2, "milvus.proto": milvus_pb2}
# Older clients need not know every field; what they know must agree.
CURRENT = int(pymilvus.__version__.split(".")[0]) >= 3

SCALARS = {
    name: getattr(FieldDescriptor, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def messages() -> list:
    return list(_messages())


def _messages():
    for name in FILES:
        for message in proto_text.read(PROTO / name).messages:
            yield pytest.param(name, message, id=f"{name}:{message}")


def enums() -> list:
    return list(_enums())


def _enums():
    for name in FILES:
        for enum in proto_text.read(PROTO / name).enums:
            yield pytest.param(name, enum, id=f"{name}:{enum}")


def qualified(name, package):
    return f"milvus.proto.{name}" if "." in name else f"{package}.{name}"


def is_repeated(field):
    known = getattr(field, "is_repeated", None)
    return field.label == FieldDescriptor.LABEL_REPEATED if known is None else known


def described_type(field):
    """The type of a field of a descriptor, as the .proto file would write it, fully qualified."""
    if field.message_type is not None:
        return field.message_type.full_name
    return field.enum_type.full_name if field.enum_type is not None else field.type


def written_type(kind, package):
    return SCALARS[kind] if kind in SCALARS else qualified(kind, package)


@pytest.mark.parametrize(("file", "name"), messages())
def test_messages_have_the_names_numbers_types_and_labels_of_pymilvus(file, name):
    ours = proto_text.read(PROTO / file)
    theirs = FILES[file].DESCRIPTOR.message_types_by_name.get(name)
    if theirs is None:
        assert not CURRENT, f"pymilvus has no message {name}"
        return
    for field in ours.messages[name]:
        described = theirs.fields_by_name.get(field.name)
        if described is None:
            assert not CURRENT, f"pymilvus has no field {name}.{field.name}"
            assert field.number not in theirs.fields_by_number, f"{name}.{field.name} has the number of another field"
            continue
        assert described.number == field.number, field.name
        assert is_repeated(described) == field.repeated, field.name
        if field.map is None:
            assert described_type(described) == written_type(field.type, ours.package), field.name
        else:
            entry = described.message_type
            assert entry.GetOptions().map_entry, field.name
            written = tuple(written_type(kind, ours.package) for kind in field.map)
            assert (described_type(entry.fields_by_name["key"]), described_type(entry.fields_by_name["value"])) == written


@pytest.mark.parametrize(("file", "name"), enums())
def test_enums_have_the_values_of_pymilvus(file, name):
    theirs = FILES[file].DESCRIPTOR.enum_types_by_name.get(name)
    if theirs is None:
        assert not CURRENT, f"pymilvus has no enum {name}"
        return
    for value, number in proto_text.read(PROTO / file).enums[name].items():
        described = theirs.values_by_name.get(value)
        if described is None:
            assert not CURRENT, f"pymilvus has no value {name}.{value}"
            assert number not in theirs.values_by_number, f"{name}.{value} has the number of another value"
        else:
            assert described.number == number, value


def test_methods_have_the_requests_and_responses_of_pymilvus():
    ours = proto_text.read(PROTO / "milvus.proto")
    theirs = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
    assert ours.methods
    for name, (request, response) in ours.methods.items():
        method = theirs.methods_by_name.get(name)
        assert method is not None, f"pymilvus has no method {name}"
        assert method.input_type.full_name == qualified(request, ours.package), name
        assert method.output_type.full_name == qualified(response, ours.package), name


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("int64 limit = 1;", "int64 limit = 2;"),
        ("string key = 1;", "bytes key = 1;"),
        ("repeated string reasons = 3;", "string reasons = 3;"),
    ],
)
def test_the_comparison_would_see_a_wrong_number_type_or_label(tmp_path, right, wrong):
    """The reader must tell these apart, or the tests above would prove nothing."""

    def fields(line):
        path = tmp_path / "sample.proto"
        path.write_text(f'syntax = "proto3";\npackage sample;\nmessage M {{ {line} }}\n')
        return proto_text.read(path).messages["M"]

    assert fields(right) != fields(wrong)

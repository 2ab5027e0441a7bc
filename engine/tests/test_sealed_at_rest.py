"""No byte of data reaches the disk in the clear, and no damaged byte becomes a wrong answer."""

import hashlib
import re
import shutil
import time

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusException

import sealed_files
from conftest import assert_clean_log
from engine_process import Engine
from sealed_files import Canary

DIM = 16
VECTOR = np.frombuffer(b"CanaryVectorData" * (DIM // 4), dtype="<f4")
NUMBER = int.from_bytes(b"CanaryI8", "little")
COLLECTION, FIELD, DYNAMIC = "canary_collection_q7", "canary_field_q7", "canary_dynamic_q7"
PASSWORD = "canary-Password-q7"
TEXT = "canary text \u00fc q7"
FILLER = 5000
NOT_AUTHENTICATED, DATA_INTEGRITY, KEY_NOT_ACCESSIBLE = 1400, 1009, 2500

CANARIES = [
    Canary("collection name", COLLECTION.encode()),
    Canary("field name", FIELD.encode()),
    Canary("description", b"canary description q7"),
    Canary("index name", b"canary_index_q7"),
    Canary("default value", b"canary default q7"),
    Canary("varchar key", b"canary-key-q7"),
    Canary("text", TEXT.encode()),
    Canary("JSON key", b"canary json key q7"),
    Canary("JSON value", b"canary json value q7"),
    Canary("dynamic key", DYNAMIC.encode()),
    Canary("dynamic value", b"canary dynamic value q7"),
    Canary("large batch", b"canary large batch q7"),
    Canary("number", b"CanaryI8"),
    Canary("vector", b"CanaryVectorData"),
    Canary("password", PASSWORD.encode()),
    Canary("property", b"canary property q7"),
]
# The password is only ever kept as a hash, and properties are not repeated in memory for long.
NOT_IN_MEMORY = {"password", "property", "index name", "description", "default value"}


def row(number, **changes):
    return {
        "id": f"canary-key-q7-{number}",
        FIELD: f"{TEXT} {number}",
        "count": NUMBER,
        "meta": {"canary json key q7": "canary json value q7", "n": number},
        "vector": VECTOR.tolist(),
        DYNAMIC: "canary dynamic value q7",
    } | changes


def fill(client):
    schema = client.create_schema(enable_dynamic_field=True, description="canary description q7")
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field(FIELD, DataType.VARCHAR, max_length=200)
    schema.add_field("preset", DataType.VARCHAR, max_length=64, default_value="canary default q7")
    schema.add_field("count", DataType.INT64)
    schema.add_field("meta", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_name="canary_index_q7", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 40})
    client.create_collection(
        COLLECTION, schema=schema, index_params=index, consistency_level="Strong", properties={"note": "canary property q7"}
    )
    # A segment with a graph index, from large batches; small segments; deletes; rows that only the log holds.
    noise = np.random.default_rng(1).standard_normal((FILLER, DIM)).astype(np.float32)
    filler = [row(n, vector=noise[n].tolist(), **{FIELD: f"canary large batch q7 {n}"}) for n in range(1000, 1000 + FILLER - 1000)]
    for first in range(0, len(filler), 2000):
        client.insert(COLLECTION, filler[first : first + 2000])
    client.insert(COLLECTION, [row(n, vector=noise[n - 5000].tolist()) for n in range(5000, 5600)])
    client.flush(COLLECTION)
    for _ in range(300):
        if client.describe_index(COLLECTION, "canary_index_q7")["pending_index_rows"] == 0:
            break
        time.sleep(0.2)
    client.insert(COLLECTION, [row(n) for n in range(20)])
    client.flush(COLLECTION)
    client.delete(COLLECTION, ids=["canary-key-q7-3", "canary-key-q7-1001"])
    client.upsert(COLLECTION, [row(4, count=1)])
    client.insert(COLLECTION, [row(n) for n in range(30, 40)])
    # Too large for the log: an object of its own.
    client.insert(COLLECTION, [row(n) for n in range(7000, 9000)])


def everything(client) -> str:
    """A digest of all rows and of a search."""
    total = client.query(COLLECTION, output_fields=["count(*)"])[0]["count(*)"]
    found = []
    for offset in range(0, total, 4000):
        found += client.query(COLLECTION, filter='id != ""', output_fields=["*"], offset=offset, limit=4000)
    assert len(found) == total
    text = "\n".join(sorted(repr(sorted((key, _plain(value)) for key, value in row.items())) for row in found))
    near = client.search(COLLECTION, data=[VECTOR.tolist()], limit=50, output_fields=[FIELD])[0]
    text += repr(sorted((hit["id"], hit["entity"][FIELD]) for hit in near if hit["distance"] == 0))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value):
    return [float(number) for number in value] if isinstance(value, (list, np.ndarray)) else value


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder full of canaries, its engine stopped; the digest of its rows; what memory held meanwhile."""
    engine = Engine(tmp_path_factory.mktemp("sealed") / "data").start()
    client = engine.client()
    client.update_password("root", engine.token.split(":", 1)[1], PASSWORD)
    engine.client_file("token").write_text(f"root:{PASSWORD}")
    client = engine.client()
    fill(client)
    digest = everything(client)
    in_memory = sealed_files.found_in(sealed_files.memory(engine.process.pid), CANARIES)
    client.close()
    # Killed, so that the log still holds rows; the token file is the client's own note, not the engine's data.
    engine.kill()
    engine.client_file("token").unlink()
    return engine, digest, in_memory


def open_copy(engine: Engine, folder) -> Engine:
    shutil.copytree(engine.folder, folder)
    return Engine(folder)


def token_of(engine: Engine):
    """The engine writes its first password there again; the tests use the changed one."""
    engine.client_file("token").write_text(f"root:{PASSWORD}")


def test_the_scanner_finds_every_canary_where_it_may_be(world, tmp_path):
    """The positive control: in the memory of the engine while it serves, and in files that were planted."""
    _, _, in_memory = world
    assert in_memory >= {canary.name for canary in CANARIES} - NOT_IN_MEMORY
    for canary in CANARIES:
        for number, form in enumerate(canary.forms()):
            planted = tmp_path / f"{canary.name.replace(' ', '')}{number}"
            planted.write_bytes(b"\x00\xffnoise" + form + b"noise\xff")
            assert sealed_files.scan(tmp_path, [canary]), (canary.name, number)
            planted.unlink()


def test_no_canary_is_in_any_file_or_file_name(world):
    engine, _, _ = world
    assert sealed_files.scan(engine.folder, CANARIES) == {}
    assert sealed_files.found_in(engine.log.read_bytes(), CANARIES) == set()


def test_every_file_is_sealed_or_a_wrapped_key(world, tmp_path):
    engine, _, _ = world
    assert sealed_files.foreign(engine.folder) == {}
    kinds = {kind for _, kind in groups(engine.folder)}
    assert {"keyring", "manifest", "wal"} <= {part for kind in kinds for part in kind.split("/")}, kinds
    # The positive control: what does not belong there is named.
    copy = tmp_path / "copy"
    shutil.copytree(engine.folder, copy)
    some = next(path for path in sealed_files.files(copy) if "zones" in path.parts)
    for planted, content in [
        (copy / "store" / "notes.txt", b"hello"),
        (some.with_name("plain"), b"VKSEALED but the rest is plain text, which is no sealed object at all" * 30),
        (some.with_name("header-only"), some.read_bytes()[:192] + b"a text where ciphertext belongs, long enough to see"),
        (copy / "dev" / "core.1234", b"\x7fELF"),
    ]:
        planted.write_bytes(content)
        assert str(planted.relative_to(copy)) in sealed_files.foreign(copy)
        planted.unlink()


def test_a_graceful_end_and_a_restart_leave_nothing_in_the_clear_either(world, tmp_path):
    engine, digest, _ = world
    copy = open_copy(engine, tmp_path / "copy").start()
    token_of(copy)
    client = copy.client()
    assert everything(client) == digest
    client.flush(COLLECTION)
    assert everything(client) == digest
    client.close()
    copy.stop()
    copy.client_file("token").unlink()
    assert sealed_files.scan(copy.folder, CANARIES) == {}
    assert sealed_files.foreign(copy.folder) == {}
    assert_clean_log(copy, {PASSWORD})


# --- damage ------------------------------------------------------------------------------------------------------------


def groups(folder) -> dict[tuple[str, str], list]:
    """Stored files by zone and kind: names without their numbers and ids."""
    found = {}
    for path in sealed_files.files(folder / "store"):
        name = str(path.relative_to(folder / "store"))
        match = re.fullmatch(r"zones/([0-9a-f]{32})/(.+)", name)
        zone, rest = (match[1], match[2]) if match else ("", name)
        kind = re.sub(r"[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{16,}|\d+", "*", rest)
        found.setdefault((zone, kind), []).append(path)
    return found


def victims(folder) -> list:
    """Of each kind of file all, or if there are many the last one and the largest."""
    chosen = []
    for paths in groups(folder).values():
        many = dict.fromkeys([paths[-1], max(paths, key=lambda path: path.stat().st_size)])
        chosen += many if len(paths) > 3 else paths
    return chosen


def siblings(folder, victim) -> list:
    return next(paths for paths in groups(folder).values() if victim in paths)


def flip(at):
    def damage(path, _):
        data = bytearray(path.read_bytes())
        data[int(at * (len(data) - 1)) if isinstance(at, float) else min(at, len(data) - 1)] ^= 1
        path.write_bytes(data)

    return damage


def truncate(path, _):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path, _):
    """To the size of an empty object: what only looks at sizes takes it for one."""
    path.write_bytes(path.read_bytes()[: sealed_files.HEADER + sealed_files.TAG])


def swap(path, others):
    path.write_bytes(others[0].read_bytes())


DAMAGE = {
    "a bit of the header": flip(70),
    "a bit of the wrapped key": flip(135),
    "a bit in the middle": flip(0.5),
    "the last bit": flip(1.0),
    "the end cut off": truncate,
    "cut down to an empty object": empty,
    "another object's bytes": swap,
}


def outcome(copy: Engine, digest: str) -> str:
    """`right`, `refused: …` or `wrong: …`."""
    copy.start(wait=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log = copy.log.read_text(errors="replace")
        locked = [line for line in log.splitlines() if "stays locked" in line]
        if locked:
            return f"refused: {refusal_code(copy)} {locked[0]}"
        if copy.process.poll() is not None:
            return f"refused: {copy.tail()}"
        try:
            token_of(copy)
            with copy.stub() as stub:
                code = stub.call("ListDatabases", timeout=5).status.code
            if code == 0:
                break
            if code == NOT_AUTHENTICATED and "unlocked and serves" in copy.log.read_text(errors="replace"):
                return "wrong: the changed password is forgotten"
        except (grpc.RpcError, FileNotFoundError):
            pass
        time.sleep(0.05)
    else:
        return f"wrong: neither served nor refused\n{copy.tail()}"
    client = copy.client()
    try:
        return "right" if everything(client) == digest else "wrong: other rows"
    except MilvusException as error:
        return f"refused: {error.code} {error.message}" if error.code == 1009 else f"wrong: {error.code} {error.message}"
    finally:
        client.close()


def refusal_code(copy: Engine) -> int:
    """What clients are told. The engine tries again and again; just after a try began it does not know yet."""
    codes = set()
    for _ in range(40):
        try:
            with copy.stub() as stub:
                codes.add(stub.call("ListDatabases", timeout=5).status.code)
        except grpc.RpcError:
            pass
        if DATA_INTEGRITY in codes:
            break
        time.sleep(0.1)
    assert codes <= {DATA_INTEGRITY, KEY_NOT_ACCESSIBLE}, codes
    return DATA_INTEGRITY if DATA_INTEGRITY in codes else KEY_NOT_ACCESSIBLE


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_kind_of_file_is_refused_by_name_and_never_a_wrong_answer(world, tmp_path, damage):
    engine, digest, _ = world
    outcomes = {}
    for position, victim in enumerate(victims(engine.folder)):
        others = [path for path in siblings(engine.folder, victim) if path.read_bytes() != victim.read_bytes()]
        if damage == "another object's bytes" and not others:
            continue
        copy = open_copy(engine, tmp_path / str(position))
        damaged = copy.folder / victim.relative_to(engine.folder)
        DAMAGE[damage](damaged, others)
        spoilt = damaged.read_bytes()
        result = outcome(copy, digest)
        copy.kill()
        name = str(damaged.relative_to(copy.folder / "store"))
        outcomes[name] = result
        assert not result.startswith("wrong"), (name, result)
        if result.startswith("refused"):
            assert name in result, f"{name} is not named: {result}"
            assert result.startswith(f"refused: {DATA_INTEGRITY}"), result
            assert damaged.read_bytes() == spoilt, "the damaged file was overwritten"
        shutil.rmtree(copy.folder)
    assert any(result.startswith("refused") for result in outcomes.values()), outcomes


def test_both_copies_of_a_wrapped_key_damaged_is_a_refusal_that_names_them(world, tmp_path):
    engine, digest, _ = world
    records = [path for path in sealed_files.files(engine.folder / "store" / "keyring") if path.suffix in (".a", ".b")]
    assert len(records) >= 4, "a system zone and a database, two copies each"
    for stem in {path.with_suffix("") for path in records}:
        copy = open_copy(engine, tmp_path / stem.parent.name)
        for suffix in (".a", ".b"):
            flip(130)((copy.folder / stem.relative_to(engine.folder)).with_suffix(suffix), [])
        result = outcome(copy, digest)
        copy.kill()
        assert result.startswith("refused") and stem.name in result, result


def test_a_store_with_another_key_stays_locked(world, tmp_path):
    engine, digest, _ = world
    copy = open_copy(engine, tmp_path / "copy")
    (copy.folder / "dev" / "key").write_bytes(bytes(32))
    before = {path: path.read_bytes() for path in sealed_files.files(copy.folder / "store")}
    result = outcome(copy, digest)
    copy.kill()
    assert result.startswith(f"refused: {KEY_NOT_ACCESSIBLE}"), result
    assert {path: path.read_bytes() for path in sealed_files.files(copy.folder / "store")} == before

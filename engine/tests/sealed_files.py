"""Looks at a data folder as a thief of the disk would: what lies there, and does any of it give something away?"""

import base64
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

# What a development engine keeps beside its store: the key of the local provider, certificates, the first password.
BESIDE_THE_STORE = re.compile(
    r"client/(uri|token|ca\.crt)|dev/(key|root-password)|dev/(serving|internal)/(tls\.crt|tls\.key|ca\.crt)"
)
SEALED = re.compile(r"store/zones/(?P<zone>[0-9a-f]{32})/(?P<kind>bulk|rows)/.+")
KEYRING = re.compile(r"store/keyring/(?P<zone>[0-9a-f]{32})/\d{8}\.[ab]")
CHUNK = {"bulk": (1, 65536), "rows": (2, 4096)}
HEADER, TAG = 192, 16


@dataclass(frozen=True)
class Canary:
    name: str
    value: bytes

    def forms(self) -> list[bytes]:
        """The bytes as they are, and as text encodings would write them."""
        # Base64 shifts with the position; the inner part of each alignment is the same whatever surrounds it.
        shifted = [base64.b64encode(b"x" * pad + self.value)[4:-4] for pad in (0, 1, 2)]
        wide = self.value.decode("latin-1").encode("utf-16-le")
        return [self.value, self.value.hex().encode(), wide, *[form for form in shifted if len(form) >= 8]]


def found_in(data: bytes, canaries: list[Canary]) -> set[str]:
    return {canary.name for canary in canaries if any(form in data for form in canary.forms())}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def scan(folder: Path, canaries: list[Canary]) -> dict[str, set[str]]:
    """Canaries in the contents and in the names of all files."""
    hits = {}
    for path in files(folder):
        name = str(path.relative_to(folder))
        found = found_in(path.read_bytes(), canaries) | found_in(name.encode(), canaries)
        if found:
            hits[name] = found
    return hits


def foreign(folder: Path) -> dict[str, str]:
    """Files that are neither sealed objects, nor keyring records, nor what a development engine keeps beside them."""
    reasons = {}
    for path in files(folder):
        name = str(path.relative_to(folder))
        reason = _verdict(name, path)
        if reason:
            reasons[name] = reason
    return reasons


def _verdict(name: str, path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return "not a plain file"
    if BESIDE_THE_STORE.fullmatch(name):
        return None
    data = path.read_bytes()
    # What a killed upload leaves is called like the object, with a number behind it.
    plain_name = re.sub(r"#\d+$", "", name)
    if match := SEALED.fullmatch(plain_name):
        return _sealed_object(data, match["zone"], match["kind"], unfinished=plain_name != name)
    if KEYRING.fullmatch(plain_name):
        return _keyring_record(data, KEYRING.fullmatch(plain_name)["zone"], unfinished=plain_name != name)
    return "not a place where anything may lie"


def _sealed_object(data: bytes, zone: str, kind: str, unfinished: bool) -> str | None:
    if unfinished and len(data) < HEADER:
        return None if b"VKSEALED".startswith(data[:8]) else "the beginning of something else"
    magic, version, suite, kind_number, chunk, ezk = struct.unpack(">8sHBBII", data[:20])
    body = len(data) - HEADER
    chunks = -(-body // (chunk + TAG)) if chunk else 0
    last = body - (chunks - 1) * (chunk + TAG)
    checks = {
        "the magic": magic == b"VKSEALED",
        "the version or suite": (version, suite) == (1, 1),
        "the kind or chunk size": (kind_number, chunk) == CHUNK[kind],
        "the key version": ezk >= 1,
        "the reserved bytes": data[20:32] == bytes(12) and data[176:192] == bytes(16),
        "the zone": data[48:64].hex() == zone,
        "the size": unfinished or (body >= TAG and last >= TAG and (chunks == 1 or last > TAG)),
        "the look of ciphertext": looks_random(data[HEADER:]),
    }
    return next((f"{what} is wrong" for what, right in checks.items() if not right), None)


def _keyring_record(data: bytes, zone: str, unfinished: bool) -> str | None:
    if unfinished:
        return None if data[:8] == b"VKEYRING"[: len(data)] else "the beginning of something else"
    (length,) = struct.unpack(">H", data[112:114])
    checks = {
        "the magic": data[:8] == b"VKEYRING",
        "the length": len(data) == 178 + length,
        "the zone": data[32:48].hex() == zone,
        "the digest": hashlib.sha256(data[: 146 + length]).digest() == data[146 + length :],
    }
    return next((f"{what} is wrong" for what, right in checks.items() if not right), None)


def looks_random(data: bytes) -> bool:
    """Ciphertext does not compress, and has no run of text."""
    if len(data) >= 1024 and len(zlib.compress(data, 6)) < len(data):
        return False
    return re.search(rb"[\x20-\x7e]{24,}", data) is None


def memory(pid: int) -> bytes:
    """All private memory of a process. Needs the rights to trace it."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or "[vvar" in line or "[vsyscall" in line:
                continue
            start, end = (int(bound, 16) for bound in span.split("-"))
            try:
                mem.seek(start)
                parts.append(mem.read(end - start) or b"")
            except (OSError, ValueError):
                continue
    return b"\0".join(parts)

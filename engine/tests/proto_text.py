"""Reads the .proto files of the engine, as far as their language goes: proto3 messages, enums, oneofs, maps, services."""

import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"[^"]*"|[A-Za-z_][\w.]*|-?\d+|[{}()=;,<>\[\]]', re.S)


@dataclass
class Field:
    name: str
    number: int
    type: str
    repeated: bool
    # (key type, value type) of a map
    map: tuple[str, str] | None = None


@dataclass
class File:
    package: str = ""
    messages: dict[str, list[Field]] = field(default_factory=dict)
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    # method -> (request type, response type)
    methods: dict[str, tuple[str, str]] = field(default_factory=dict)


def read(path: Path) -> File:
    tokens = [token for token in TOKEN.findall(path.read_text()) if not token.startswith(("//", "/*"))]
    return _Reader(tokens).file()


class _Reader:
    def __init__(self, tokens):
        self.tokens = tokens
        self.at = 0

    def next(self, expected=None):
        token = self.tokens[self.at]
        assert expected is None or token == expected, f"{token!r} where {expected!r} belongs"
        self.at += 1
        return token

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def skip_past(self, end):
        while self.next() != end:
            pass

    def file(self):
        file = File()
        while (word := self.peek()) is not None:
            self.next()
            if word == "package":
                file.package = self.next()
                self.next(";")
            elif word == "message":
                name = self.next()
                file.messages[name] = self.message()
            elif word == "enum":
                name = self.next()
                file.enums[name] = self.enum()
            elif word == "service":
                self.next()
                self.service(file)
            else:
                assert word in ("syntax", "import", "option"), f"unknown statement {word!r}"
                self.skip_past(";")
        return file

    def message(self):
        fields = []
        self.next("{")
        while self.peek() != "}":
            if self.peek() == "oneof":
                self.next()
                self.next()
                fields.extend(self.message())
            else:
                fields.append(self.field())
        self.next("}")
        return fields

    def field(self):
        label = self.next() if self.peek() in ("repeated", "optional") else ""
        kind = self.next()
        entry = None
        if kind == "map":
            self.next("<")
            key = self.next()
            self.next(",")
            entry = (key, self.next())
            self.next(">")
        name = self.next()
        self.next("=")
        number = int(self.next())
        self.skip_past(";")
        return Field(name, number, kind, label == "repeated" or entry is not None, entry)

    def enum(self):
        values = {}
        self.next("{")
        while self.peek() != "}":
            name = self.next()
            self.next("=")
            values[name] = int(self.next())
            self.next(";")
        self.next("}")
        return values

    def service(self, file):
        self.next("{")
        while self.peek() != "}":
            self.next("rpc")
            name = self.next()
            self.next("(")
            request = self.next()
            self.next(")")
            self.next("returns")
            self.next("(")
            response = self.next()
            self.next(")")
            self.next(";")
            file.methods[name] = (request, response)
        self.next("}")

"""Writing of configuration files."""
from __future__ import annotations

import os
import pathlib


def write_if_changed(path: pathlib.Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replaces the file in one step unless it has that content already.

    Programs watch their files (kube-proxy ends itself when its configuration is written), so a
    second `up` must not touch what is right.
    """
    wanted = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == wanted:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(wanted)
    partial.replace(path)

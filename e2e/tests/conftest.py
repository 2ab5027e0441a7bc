"""One cluster, one installation and one KMS for all tests; after each test the logs are read."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from e2e.harness import cluster as clusters
from e2e.harness import images, scan
from e2e.harness.cluster import Cluster
from e2e.harness.installation import OPERATOR_NAMESPACE, Installation, Tenant
from e2e.harness.kms import KmsSimulator


NAMESPACES = ("acme", "other")


@dataclass
class World:
    """What all tests share."""

    cluster: Cluster
    images: images.Images
    simulator: KmsSimulator
    installation: Installation
    tenants: dict[str, Tenant] = field(default_factory=dict)

    def tenant(self, namespace: str, name: str, **spec: object) -> Tenant:
        """A tenant that is known to the checks after each test. Nothing is created yet."""
        tenant = Tenant(self.cluster, self.simulator, namespace, name, dict(spec))
        self.tenants[tenant.id] = tenant
        return tenant

    def logs(self) -> str:
        """Logs of the operator and of every engine."""
        text = scan.pod_logs(self.cluster, OPERATOR_NAMESPACE, "app.kubernetes.io/name=vectorkeep-operator")
        for tenant in self.tenants.values():
            text += scan.pod_logs(self.cluster, tenant.data_plane, "vectorkeep.dev/component=engine")
        return text


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The cluster with VectorKeep installed."""
    cluster = clusters.start()
    built = images.build_and_load(cluster)
    with KmsSimulator(cluster, built) as simulator:
        installation = Installation(cluster, built)
        installation.install()
        installation.offer()  # what the chart brings, whatever an earlier run or the demo put beside it
        for namespace in NAMESPACES:
            if cluster.exists("namespace", namespace):
                # What an earlier run or the demo left in our namespaces.
                cluster.kubectl("-n", namespace, "delete", "vcl", "--all", "--timeout=180s")
        yield World(cluster, built, simulator, installation)


@pytest.fixture(autouse=True)
def logs_hold_no_unexpected_error_and_no_secret(world: World, request: pytest.FixtureRequest) -> Iterator[None]:
    """Reads the logs after each test. A test that provokes an error names it with the marker `expects`."""
    yield
    text = world.logs()
    marker = request.node.get_closest_marker("expects")
    assert scan.unexpected_errors(text, marker.args if marker else ()) == []
    for tenant in world.tenants.values():
        if world.cluster.exists("-n", tenant.namespace, "secret", f"{tenant.name}-connection"):
            assert tenant.connection()["password"] not in text, "a root password is in a log"


@pytest.fixture(scope="module")
def acme(world: World) -> Iterator[Tenant]:
    """A Ready cluster of the namespace `acme`, one for each module."""
    yield from _ready(world.tenant("acme", "words"))


@pytest.fixture(scope="module")
def other(world: World) -> Iterator[Tenant]:
    """A second Ready cluster, of another customer."""
    yield from _ready(world.tenant("other", "images"))


def _ready(tenant: Tenant) -> Iterator[Tenant]:
    tenant.create_key()
    tenant.apply()
    tenant.wait_ready()
    yield tenant
    tenant.delete()


@pytest.fixture
def eventually() -> Callable:
    """Waiting for what must come."""
    from e2e.harness.shell import wait_for
    return wait_for

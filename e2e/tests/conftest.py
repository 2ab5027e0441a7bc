"""One cluster, one installation and one KMS for all tests; after each test the logs are read."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
    # Of engines that are gone.
    kept_logs: str = field(default="", repr=False)
    # What no log may hold, nor the report of a failed test; also of clusters that are gone.
    private: set[str] = field(default_factory=set, repr=False)
    # Errors in the logs that were judged after an earlier test.
    judged: Counter[str] = field(default_factory=Counter)

    def tenant(self, namespace: str, name: str, **spec: object) -> Tenant:
        """A tenant that is known to the checks after each test. Nothing is created yet."""
        tenant = Tenant(self.cluster, self.simulator, namespace, name, dict(spec))
        tenant.before_delete = lambda: self._keep(tenant)
        self.tenants[tenant.id] = tenant
        return tenant

    def logs(self) -> str:
        """Logs of the operator and of every engine, also of those that are gone."""
        text = scan.pod_logs(self.cluster, OPERATOR_NAMESPACE, "app.kubernetes.io/name=vectorkeep-operator")
        return "".join([text, *map(self._engine_logs, self.tenants.values()), self.kept_logs])

    def errors(self, text: str, allowed: Iterable[str]) -> list[str]:
        """Unexpected errors in the logs that no earlier test was judged by."""
        found = Counter(scan.unexpected_errors(text))
        new, self.judged = found - self.judged, found
        return scan.unexpected_errors("\n".join(new.elements()), allowed)

    def note_private_values(self) -> None:
        """Remembers the secrets of every cluster that there is."""
        self.private |= scan.private_values(self.cluster)
        assert self.private or not self.cluster.get("vcl", "-A")["items"], "no secret was found, so nothing is looked for"

    def _keep(self, tenant: Tenant) -> None:
        """A fixture deletes its cluster before the check after the test reads what that left behind."""
        self.kept_logs += self._engine_logs(tenant)
        self.private |= scan.private_values(self.cluster)

    def _engine_logs(self, tenant: Tenant) -> str:
        return scan.pod_logs(self.cluster, tenant.data_plane, "vectorkeep.dev/component=engine")


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
    assert world.errors(text, marker.args if marker else ()) == []
    world.note_private_values()
    # Counted first: what a failed assertion calls is printed with its arguments.
    leaked = scan.in_text(text, world.private)
    assert leaked == 0, "a password or a line of a private key is in a log"


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

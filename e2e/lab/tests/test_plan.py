"""Pure parts: addresses, pins, the fence, the list of left-out specs."""
import ipaddress
import json
import pathlib
import re
import unittest

from lab import addons, conformance, layout, network, versions
from lab.errors import LabError


def pins(module: str) -> dict[str, str]:
    """The version that go/`module`/go.mod gives each library."""
    text = (versions.GO_MODULES / module / "go.mod").read_text()
    text = re.sub(r"^exclude \(.*?^\)", "", text, flags=re.MULTILINE | re.DOTALL)
    required = re.findall(r"^\s+(\S+) (v\S+)", text, re.MULTILINE)
    replaced = re.findall(r"^\s+(\S+) => \S+ (v\S+)", text, re.MULTILINE)
    return dict(required) | dict(replaced)


class Addresses(unittest.TestCase):
    def test_no_range_of_the_lab_overlaps_another(self):
        ranges = [ipaddress.ip_network(text) for text in
                  (layout.NODE_RANGE, layout.POD_RANGE, layout.SERVICE_RANGE, "192.0.2.0/24")]
        for index, one in enumerate(ranges):
            for other in ranges[index + 1:]:
                self.assertFalse(one.overlaps(other), f"{one} and {other}")

    def test_each_node_has_its_own_part_of_the_ranges(self):
        nodes = [layout.Node(f"node-{index}", index) for index in range(1, 10)]
        self.assertEqual(len({node.address for node in nodes}), 9)
        for node in nodes:
            self.assertIn(ipaddress.ip_address(node.address), ipaddress.ip_network(layout.NODE_RANGE))
            self.assertTrue(ipaddress.ip_network(node.pod_range).subnet_of(ipaddress.ip_network(layout.POD_RANGE)))

    def test_the_fence_refuses_all_but_the_labs_ranges(self):
        for text in (layout.POD_RANGE, layout.SERVICE_RANGE, layout.NODE_RANGE):
            self.assertEqual(network.fence().count(text), 2)


class Pins(unittest.TestCase):
    def test_every_group_has_a_module_with_a_lock_file(self):
        for group in versions.GROUPS.values():
            self.assertTrue((group.folder / "go.mod").is_file(), group.name)

    def test_every_group_of_a_mode_exists(self):
        for name in (*versions.TESTS, *versions.CONFORMANCE):
            self.assertIn(name, versions.GROUPS)

    def test_a_cluster_does_not_wait_for_what_only_tests_install(self):
        self.assertNotIn("cert-manager", versions.CLUSTER)

    def test_cert_manager_is_compiled_with_the_libraries_of_kubernetes(self):
        kubernetes = pins("kubernetes")
        shared = {name: version for name, version in pins("cert-manager").items() if name in kubernetes}
        self.assertIn("k8s.io/client-go", shared)
        self.assertEqual(shared, {name: kubernetes[name] for name in shared})

    def test_kubernetes_reports_its_pinned_version(self):
        flags = versions.kubernetes_ldflags("v1.37.2")
        self.assertIn("-X=k8s.io/component-base/version.gitVersion=v1.37.2", flags)
        self.assertIn("-X=k8s.io/client-go/pkg/version.gitMinor=37", flags)


class Manifests(unittest.TestCase):
    def test_dns_has_no_upstream(self):
        self.assertNotIn("forward", addons.COREFILE)

    def test_no_image_can_come_from_a_registry(self):
        text = addons.manifests(layout.Layout(pathlib.Path("/state")))
        for item in json.loads(text)["items"]:
            if item["kind"] == "Deployment":
                for container in item["spec"]["template"]["spec"]["containers"]:
                    self.assertTrue(container["image"].startswith("lab.invalid/"))


class Skips(unittest.TestCase):
    def test_the_committed_list_has_a_reason_for_each(self):
        self.assertTrue(conformance.parse_skips(conformance.SKIPS.read_text()))

    def test_an_entry_without_reason_is_refused(self):
        with self.assertRaisesRegex(LabError, "has no reason"):
            conformance.parse_skips("some spec\n")


if __name__ == "__main__":
    unittest.main()

"""Images: stable digests, and nothing in them that wasn't asked for."""
import hashlib
import json
import pathlib
import tarfile
import tempfile
import unittest

from lab import oci
from lab.errors import LabError


def blob(archive: tarfile.TarFile, digest: str) -> bytes:
    return archive.extractfile("blobs/sha256/" + digest.removeprefix("sha256:")).read()


class Archives(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, image: oci.Image, name: str = "a.tar") -> tuple[pathlib.Path, str]:
        path = self.folder / name
        return path, oci.write_archive(image, path)

    def test_the_order_of_additions_does_not_change_the_digest(self):
        one = oci.Image("lab.invalid/a:1", ["/a"])
        one.add_file("/etc/x/y", b"1")
        one.add_link("/bin/b", "a")
        other = oci.Image("lab.invalid/a:1", ["/a"])
        other.add_link("/bin/b", "a")
        other.add_file("/etc/x/y", b"1")
        first, first_digest = self.write(one, "1.tar")
        second, second_digest = self.write(other, "2.tar")
        self.assertEqual(first_digest, second_digest)
        self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_every_blob_has_the_digest_by_which_it_is_referred_to(self):
        image = oci.Image("lab.invalid/a:1", ["/a"])
        image.add_file("/a", b"program", 0o755)
        path, digest = self.write(image)
        with tarfile.open(path) as archive:
            manifest = json.loads(blob(archive, digest))
            for described in (manifest["config"], *manifest["layers"]):
                content = blob(archive, described["digest"])
                self.assertEqual("sha256:" + hashlib.sha256(content).hexdigest(), described["digest"])
                self.assertEqual(len(content), described["size"])

    def test_the_program_runs_as_the_unprivileged_user(self):
        path, digest = self.write(oci.Image("lab.invalid/a:1", ["/a"]))
        with tarfile.open(path) as archive:
            config = json.loads(blob(archive, json.loads(blob(archive, digest))["config"]["digest"]))
        self.assertEqual(config["config"]["User"], "65532:65532")
        self.assertEqual(config["config"]["Entrypoint"], ["/a"])

    def test_a_dynamic_program_brings_its_libraries_and_no_shell(self):
        image = oci.Image("lab.invalid/ls:1", ["/ls"])
        image.add_base()
        image.add_program(pathlib.Path("/bin/ls"), "/ls")
        self.assertTrue(any("libc.so.6" in path for path in image.entries))
        self.assertTrue(any("ld-linux" in path for path in image.entries))
        self.assertFalse([path for path in image.entries if path.rpartition("/")[2] in ("sh", "bash", "dash")])
        self.assertTrue(any(path.startswith("var/lib/dpkg/status.d/libc6") for path in image.entries))

    def test_an_archive_says_its_name_and_digest(self):
        path, digest = self.write(oci.Image("lab.invalid/a:1", ["/a"]))
        self.assertEqual(oci.read_reference(path), ("lab.invalid/a:1", digest))

    def test_a_file_that_is_no_archive_is_refused_by_name(self):
        path = self.folder / "not.tar"
        path.write_text("hello")
        with self.assertRaisesRegex(LabError, "not.tar is no OCI archive"):
            oci.read_reference(path)


class References(unittest.TestCase):
    def test_the_tag_is_cut_off_and_a_port_is_not(self):
        self.assertEqual(oci.repository("lab.invalid/a:1"), "lab.invalid/a")
        self.assertEqual(oci.repository("host:5000/a"), "host:5000/a")
        self.assertEqual(oci.repository("host:5000/a:1"), "host:5000/a")

    def test_ldd_output_is_read(self):
        output = ("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n"
                  "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n")
        self.assertEqual(oci.parse_ldd(output, pathlib.Path("/x")),
                         ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"])

    def test_a_missing_library_is_an_error_that_names_it(self):
        with self.assertRaisesRegex(LabError, "libabsent.so.1"):
            oci.parse_ldd("\tlibabsent.so.1 => not found\n", pathlib.Path("/x"))


if __name__ == "__main__":
    unittest.main()

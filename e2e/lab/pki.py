"""The lab's certificates, made with the openssl program."""
from __future__ import annotations

import base64
import json
import pathlib
import subprocess

from .errors import LabError
from .files import write_if_changed

LIFETIME_DAYS = "3650"


def _openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True)
    if done.returncode != 0:
        raise LabError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _certificate(certificate: pathlib.Path, key: pathlib.Path, subject: str, extensions: dict[str, str],
                 signer: tuple[pathlib.Path, pathlib.Path] | None = None) -> None:
    """Makes a P-256 key and its certificate, self-signed unless a signer is given."""
    lines = ["[req]", "distinguished_name=subject", "x509_extensions=extensions", "prompt=no",
             "[subject]", "[extensions]", *(f"{name}={value}" for name, value in extensions.items())]
    request = ["req", "-x509", "-config", "/dev/stdin", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
               "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", LIFETIME_DAYS, "-subj", subject]
    if signer:
        request += ["-CA", str(signer[0]), "-CAkey", str(signer[1])]
    _openssl(*request, stdin="\n".join(lines).encode() + b"\n")


class Authority:
    """A certificate authority in a folder; what exists is kept."""

    def __init__(self, folder: pathlib.Path, name: str):
        self._folder = folder
        self.certificate = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self.certificate.exists() and self.key.exists()):
            _certificate(self.certificate, self.key, f"/CN=vectorkeep-lab-{name}", {
                "basicConstraints": "critical,CA:TRUE",
                "keyUsage": "critical,keyCertSign,cRLSign",
                "subjectKeyIdentifier": "hash",
            })

    def issue(self, name: str, common_name: str, *, organization: str = "", names: tuple[str, ...] = (),
              server: bool = False) -> tuple[pathlib.Path, pathlib.Path]:
        """Issues a certificate (for clients, and for servers too if `server`); returns it and its key.

        An existing certificate is kept if it was issued for the same subject and names.
        """
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        alternative = ",".join(("IP:" if _is_address(entry) else "DNS:") + entry for entry in names)
        usages = "clientAuth,serverAuth" if server else "clientAuth"
        asked = json.dumps([common_name, organization, alternative, usages])
        note = self._folder / f"{name}.asked"
        if certificate.exists() and key.exists() and note.exists() and note.read_text() == asked:
            return certificate, key
        subject = (f"/O={organization}" if organization else "") + f"/CN={common_name}"
        extensions = {
            "basicConstraints": "critical,CA:FALSE",
            "keyUsage": "critical,digitalSignature",
            "extendedKeyUsage": usages,
            "authorityKeyIdentifier": "keyid",
        }
        if alternative:
            extensions["subjectAltName"] = alternative
        _certificate(certificate, key, subject, extensions, signer=(self.certificate, self.key))
        note.write_text(asked)
        return certificate, key


def _is_address(text: str) -> bool:
    return all(part.isdigit() for part in text.split("."))


def service_account_keys(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The key pair that signs service account tokens: (public, private). RSA, as cloud providers require."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private, public = folder / "sa.key", folder / "sa.pub"
    if not private.exists():
        partial = folder / "sa.key.partial"
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(partial))
        partial.replace(private)
    write_if_changed(public, _openssl("pkey", "-in", str(private), "-pubout"))
    return public, private


def write_kubeconfig(path: pathlib.Path, server: str, authority: pathlib.Path,
                     client: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Writes a self-contained kubeconfig (JSON, which is YAML too)."""

    def embedded(file: pathlib.Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": server, "certificate-authority-data": embedded(authority)}}],
        "users": [{"name": "lab", "user": {
            "client-certificate-data": embedded(client[0]), "client-key-data": embedded(client[1])}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    write_if_changed(path, json.dumps(content, indent=1) + "\n", mode=0o600)

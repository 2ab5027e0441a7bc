"""Stands where a cloud's instance metadata service would stand, so that probes of it meet a listener.

Run as a program: `python3 metadata.py ADDRESS PORT`.
"""
from __future__ import annotations

import http.server
import sys

BODY = b"vectorkeep-lab metadata listener\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers everything with the same body."""

    def do_GET(self) -> None:  # noqa: N802  (the name is the library's)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    do_PUT = do_GET  # noqa: N815


def serve(address: str, port: int) -> None:
    """Serves until the process is ended."""
    http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))

"""One page, served to whoever has its address: on this machine alone, below a token that nobody can guess."""

import secrets
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from losslab.errors import Refused


class Handler(BaseHTTPRequestHandler):
    """Answers with the page at its address, and with nothing anywhere else."""

    server_version, sys_version = "losslab", ""

    def __init__(self, page: Path, token: str, *args: Any) -> None:
        self.page, self.token = page, token
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer a request."""
        known = secrets.compare_digest(self.path.strip("/").encode(), self.token.encode())
        found = self.page.read_bytes() if known and self.page.is_file() else b""
        self.send_response(200 if found else 503 if known else 404)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(found))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            *([] if found else [("Refresh", "2")]),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the address would stand in a log."""


def serve(page: Path, port: int = 0) -> str:
    """Serve a page in the background; return what to tell the user.

    Raises:
        Refused: where the port is taken.
    """
    token = secrets.token_urlsafe(24)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, page, token))
    except OSError as error:
        raise Refused(f"port={port} cannot be used ({error.strerror}): type another one, or leave it out") from None
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    return (
        f"open      http://127.0.0.1:{port}/{token}/\n"
        f"from another machine, first: ssh -N -L {port}:127.0.0.1:{port} THIS_MACHINE"
    )

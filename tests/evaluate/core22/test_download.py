"""Downloads, against a server on this machine."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ralph.errors import ConfigurationError, InfrastructureError
from ralph.evaluate.core22 import download as downloading
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.download import download
from tests.evaluate.core22 import material

BODY = bytes(range(256)) * 5000
PIN = hashlib.sha256(BODY).digest()


class Handler(http.server.BaseHTTPRequestHandler):
    bodies: ClassVar[dict[str, bytes]] = {"/file": BODY}
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", {"file": "/file", "ftp": "ftp://127.0.0.1/x", "far": "http://192.0.2.1/x"}[self.path[4:]])
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY[:1000])
        elif self.path in self.bodies:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.bodies[self.path])
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Handler, "requests", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_pinned_file_arrives_whole_and_is_not_fetched_twice(address: str, tmp_path: Path) -> None:
    target = tmp_path / "data" / "bundle.zip"
    assert download(f"{address}/file", sha256=PIN, destination=target) == target
    assert target.read_bytes() == BODY
    assert left(target.parent) == ["bundle.zip"]
    download(f"{address}/file", sha256=PIN, destination=target)
    assert Handler.requests == ["/file"]


def test_a_downloaded_bundle_opens(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = material.write_zip(tmp_path / "there.zip", material.files()).read_bytes()
    monkeypatch.setitem(Handler.bodies, "/bundle", packed)
    here = download(f"{address}/bundle", sha256=hashlib.sha256(packed).digest(), destination=tmp_path / "here.zip")
    assert open_bundle(here).absent == ()


def test_other_bytes_leave_nothing_behind_and_what_was_there_stays(address: str, tmp_path: Path) -> None:
    target = tmp_path / "bundle.zip"
    target.write_bytes(b"an older bundle")
    with pytest.raises(ConfigurationError, match="is pinned") as refused:
        download(f"{address}/file", sha256=bytes(32), destination=target)
    assert refused.value.code == "OPS-DATA"
    assert PIN.hex() in refused.value.detail
    assert left(tmp_path) == ["bundle.zip"]
    assert target.read_bytes() == b"an older bundle"


def test_more_bytes_than_allowed_are_not_read(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="more than 1000 bytes"):
        download(f"{address}/file", sha256=PIN, destination=tmp_path / "b", limit_bytes=1000)
    assert left(tmp_path) == []


def test_a_server_that_takes_for_ever_is_given_up(address: str, tmp_path: Path) -> None:
    ticks = iter(range(0, 10**9, 1000))
    with pytest.raises(InfrastructureError, match="took more than 1800 s"):
        download(f"{address}/file", sha256=PIN, destination=tmp_path / "b", clock=lambda: float(next(ticks)))
    assert left(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "SILENCE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InfrastructureError, match="timed out"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/file", sha256=PIN, destination=tmp_path / "b")


@pytest.mark.parametrize(("path", "complaint"), [("/missing", "404"), ("/short", "stopped after 1000 of|cannot be fetched")])
def test_a_server_that_fails_is_the_networks_fault(address: str, tmp_path: Path, path: str, complaint: str) -> None:
    with pytest.raises(InfrastructureError, match=complaint):
        download(address + path, sha256=PIN, destination=tmp_path / "b")
    assert left(tmp_path) == []


def test_redirects_are_followed_to_allowed_addresses_only(address: str, tmp_path: Path) -> None:
    assert download(f"{address}/to/file", sha256=PIN, destination=tmp_path / "b").read_bytes() == BODY
    for place in ("ftp", "far"):
        with pytest.raises(ConfigurationError, match="no https address"):
            download(f"{address}/to/{place}", sha256=PIN, destination=tmp_path / "c")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/b.zip",
        "ftp://127.0.0.1/b",
        "file:///etc/passwd",
        "https://",
        "b.zip",
        "http://127.0.0.1.example.org/b",
        "https://[x/",
    ],
)
def test_only_https_and_this_machine_are_addresses(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="address"):
        download(url, sha256=PIN, destination=tmp_path / "b")

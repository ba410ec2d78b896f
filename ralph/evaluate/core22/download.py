"""Fetch the bundle from an https address whose SHA-256 the operator has pinned.

The pin is what is trusted. TLS, the host and redirects only decide whether the right bytes arrive, so wrong bytes are an error
with both digests and leave nothing behind. Plain http is allowed to this machine itself and to nowhere else.
"""

import hashlib
import http.client
import ipaddress
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ralph.errors import ConfigurationError, InfrastructureError
from ralph.evaluate.core22.items import CODE
from ralph.store.files import disk_errors, sync_directory

CHUNK_BYTES = 1 << 20
MAX_BYTES = 512 << 20
"""Of the packed bundle."""
SILENCE_S = 30.0
"""Longest wait for the next bytes."""
DEADLINE_S = 1800.0
"""Longest download."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to allowed addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str, *, sha256: bytes, destination: Path, limit_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
) -> Path:
    """Fetch ``url`` to ``destination``, which appears complete and verified or not at all.

    A file that is there already and has the digest is kept, and nothing is fetched.

    Args:
        url: https, or http to a loopback address.
        sha256: Digest of the file, 32 bytes.
        destination: Where the file goes.
        limit_bytes: Most bytes that are read.
        clock: Seconds; the deadline is measured with it.

    Raises:
        ConfigurationError: An address that is not allowed; ``OPS-DATA``, other bytes than the pinned ones or too many.
        InfrastructureError: The server does not answer, stops, or takes too long; ``OPS-DISK``, no room.
    """
    _check(url)
    if destination.is_file() and _digest(destination) == sha256:
        return destination
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        with disk_errors(destination):
            destination.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                found = _fetch(url, file, limit_bytes, clock)
                file.flush()
                os.fsync(file.fileno())
        if found != sha256:
            raise ConfigurationError(f"{url} has sha256 {found.hex()}, {sha256.hex()} is pinned", code=CODE)
        with disk_errors(destination):
            temporary.replace(destination)
            sync_directory(destination.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return destination


def _fetch(url: str, file: IO[bytes], limit_bytes: int, clock: Callable[[], float]) -> bytes:
    """Write the answer's body to ``file`` and return its digest."""
    end = clock() + DEADLINE_S
    seen, hashed = 0, hashlib.sha256()
    with _network(url):
        answer = urllib.request.build_opener(_Redirects).open(url, timeout=SILENCE_S)
    with answer:
        while chunk := _read(answer, url):
            seen += len(chunk)
            if seen > limit_bytes:
                raise ConfigurationError(f"{url} has more than {limit_bytes} bytes", code=CODE)
            if clock() > end:
                raise InfrastructureError(f"{url} took more than {DEADLINE_S:g} s for {seen} bytes")
            hashed.update(chunk)
            file.write(chunk)
        promised = answer.headers.get("Content-Length") or ""
    if promised.isdecimal() and seen < int(promised):
        raise InfrastructureError(f"{url} stopped after {seen} of {promised} bytes")
    return hashed.digest()


def _read(answer: IO[bytes], url: str) -> bytes:
    with _network(url):
        return answer.read(CHUNK_BYTES)


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Turn failures of the network into ours before they can look like the disk's."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise InfrastructureError(f"{url} is answered with {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise InfrastructureError(f"{url} cannot be fetched: {error}") from error


def _check(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is no address: {error}") from error
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and _is_loopback(host):
        return
    raise ConfigurationError(f"{url!r} is no https address; a bundle is fetched with https, or given as a local path")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

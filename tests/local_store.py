"""Stand-ins on 127.0.0.1 for a file server and for the public object store of IDC, for tests without a network.

Only what pooch and s5cmd ask of them is served: GET and HEAD with ranges, and the listing of a bucket (ListObjectsV2).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

FIXED_DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass
class LocalStore:
    """A running store. objects: path ("file" or "bucket/key") to bytes; they may be changed while it runs.

    broken: paths whose transfer stops half-way although the full length was announced, that many times (-1: always).
    requests: every request as "METHOD path", in order of arrival.
    """

    address: str
    objects: dict[str, bytes]
    broken: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def asked_for(self, path: str) -> int:
        """How often the object was asked for with GET."""
        return self.requests.count(f"GET {path}")


@contextmanager
def local_store(objects: dict[str, bytes]) -> Iterator[LocalStore]:
    """Serve `objects` on a free port of 127.0.0.1 until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.store = LocalStore(f"http://127.0.0.1:{server.server_address[1]}", dict(objects))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *arguments: object) -> None:
        """Keep test output clean; `LocalStore.requests` is the log."""

    def _answer(self, *, with_body: bool) -> None:
        store: LocalStore = self.server.store
        parts = urlsplit(self.path)
        path = unquote(parts.path).strip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        store.requests.append(f"{self.command} {path}")
        if "list-type" in query:
            self._send(200, _listing(store.objects, path, query.get("prefix", [""])[0]), "application/xml", with_body)
        elif not path or any(name.startswith(f"{path}/") for name in store.objects):
            self._send(200, b"", "text/plain", with_body, {"x-amz-bucket-region": "us-east-1"})
        elif path in store.objects:
            self._send_object(store, path, with_body)
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml", with_body)

    def _send_object(self, store: LocalStore, path: str, with_body: bool) -> None:
        content = store.objects[path]
        status, total = 200, len(content)
        wanted = self.headers.get("Range", "")
        extra = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Last-Modified": FIXED_DATE, "Accept-Ranges": "bytes"}
        if wanted.startswith("bytes=") and total:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else total, total)
            content, status = content[start:stop], 206
            extra["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        if with_body and store.broken.get(path, 0) != 0:
            store.broken[path] -= 1
            self._head(status, len(content), "application/octet-stream", extra)
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self._send(status, content, "application/octet-stream", with_body, extra)

    def _send(self, status: int, content: bytes, kind: str, with_body: bool, extra: dict | None = None) -> None:
        self._head(status, len(content), kind, extra or {})
        if with_body:
            self.wfile.write(content)

    def _head(self, status: int, length: int, kind: str, extra: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()


def _listing(objects: dict[str, bytes], bucket: str, prefix: str) -> bytes:
    inside = {
        path.removeprefix(f"{bucket}/"): objects[path] for path in sorted(objects) if path.startswith(f"{bucket}/")
    }
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"{hashlib.md5(content).hexdigest()}"</ETag><Size>{len(content)}</Size>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key, content in inside.items()
        if key.startswith(prefix)
    )
    count = entries.count("<Contents>")
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()

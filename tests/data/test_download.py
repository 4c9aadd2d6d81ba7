"""Files fetched from a server on this machine, which answers well, badly or not at all."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from breve.data import mnist
from breve.data.download import fetch
from breve.errors import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKED = gzip.compress(CONTENT, 1)
ANSWERS = {
    "/good": (200, PACKED, len(PACKED)),
    "/plain": (200, CONTENT, len(CONTENT)),
    "/other_packing": (200, gzip.compress(CONTENT, 9), None),
    "/wrong": (200, b"<html>quota exceeded</html>", None),
    "/short": (200, PACKED[:-100], len(PACKED)),
    "/damaged": (200, PACKED[:500] + b"\0" * 20 + PACKED[520:], len(PACKED)),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status, content, length = self.server.answers.get(self.path, (404, b"", 0))
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.answers = [], ANSWERS
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server, path):
    return f"http://127.0.0.1:{server.server_port}{path}"


@pytest.mark.parametrize("path", ["/good", "/plain", "/other_packing"])
def test_file_is_fetched_and_its_content_checked(server, tmp_path, path):
    seen = []
    fetch([url(server, path)], tmp_path / "new" / "file", SHA256, lambda *progress: seen.append(progress))
    assert (tmp_path / "new" / "file").read_bytes() == ANSWERS[path][1]
    assert seen[-1] == ("file", len(ANSWERS[path][1]), ANSWERS[path][2] or 0)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_next_address_is_asked_where_one_fails(server, tmp_path):
    paths = ["/missing", "/wrong", "/short", "/damaged", "/good", "/plain"]
    fetch([url(server, path) for path in paths], tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == PACKED
    assert server.asked == paths[:5]


def test_every_failure_is_told_and_nothing_is_left(server, tmp_path):
    addresses = [url(server, path) for path in ("/missing", "/wrong", "/short", "/damaged")]
    addresses += ["http://127.0.0.1:9/refused", "nonsense"]
    with pytest.raises(DataError, match="file cannot be fetched") as caught:
        fetch(addresses, tmp_path / "file", SHA256)
    message = str(caught.value)
    assert all(address in message for address in addresses)
    assert "404" in message
    assert "expected sha256" in message
    assert "broke off" in message
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there_is_kept_and_a_damaged_one_replaced(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    fetch([url(server, "/good")], tmp_path / "file", SHA256)
    assert server.asked == []
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    fetch([url(server, "/good")], tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == PACKED


def test_damaged_file_is_kept_while_no_better_one_comes(server, tmp_path):
    (tmp_path / "file").write_bytes(b"damaged")
    with pytest.raises(DataError):
        fetch([url(server, "/wrong")], tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == b"damaged"


def test_mnist_is_fetched_file_by_file_from_the_mirrors(server, tmp_path, monkeypatch):
    names = list(mnist.CONTENT_SHA256)
    contents = {name: name.encode() * 100 for name in names}
    server.answers = {f"/b/{name}": (200, gzip.compress(content), None) for name, content in contents.items()}
    server.answers["/a/" + names[0]] = server.answers["/b/" + names[0]]
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mnist, "CONTENT_SHA256", sums)
    mnist.download(tmp_path, mirrors=[url(server, "/a/"), url(server, "/b/")])
    assert {name: gzip.decompress((tmp_path / name).read_bytes()) for name in names} == contents
    assert server.asked.count("/a/" + names[1]) == 1
    assert "/b/" + names[0] not in server.asked

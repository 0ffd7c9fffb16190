"""Downloads against a server on this machine that misbehaves in the ways the real world does."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from utils.data import SOURCES, cache_folder, load_images, load_names, load_text, split_images
from utils.data.download import RemoteFile, fetch
from utils.data.sources import Source

BODY = b"".join(b"line %d of the data set\n" % i for i in range(20_000))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        if self.path.startswith("/404"):
            self.send_error(404)
            return
        body = BODY[::-1] if self.path.startswith("/wrong") else BODY
        if self.path.startswith("/together"):
            server.together.wait(timeout=20)
        self.send_response(200)
        if not self.path.startswith("/endless"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/drop"):
            self.wfile.write(body[: len(body) // 2])
        elif self.path.startswith("/stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            server.closing.wait(timeout=20)
        elif self.path.startswith("/endless"):
            try:
                while not server.closing.is_set():
                    self.wfile.write(body)
            except OSError:
                server.hung_up.set()
        else:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server whose path says how it behaves: /good, /wrong, /drop, /stall, /endless, /404."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.requests = []
    server.closing, server.hung_up = threading.Event(), threading.Event()
    server.together = threading.Barrier(2)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def remote(server, *ways: str, content: bytes = BODY, path: str = "set/data.txt") -> RemoteFile:
    urls = tuple(f"{server.url}/{way}/data.txt" for way in ways)
    return RemoteFile(path, len(content), hashlib.sha256(content).hexdigest(), urls)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def failure(file: RemoteFile, folder: Path, **options) -> str:
    with pytest.raises(ConnectionError) as caught:
        fetch(file, folder, **options)
    message = str(caught.value)
    assert "\n" not in message, f"an error message is one line, yours is {message!r}"
    return message


def test_a_file_is_downloaded_once(server, tmp_path, capfd):
    file = remote(server, "good")
    assert fetch(file, tmp_path) == BODY
    assert fetch(file, tmp_path) == BODY
    assert server.requests == ["/good/data.txt"], "the second time must come from the cache"
    assert files_in(tmp_path) == ["set/data.txt".replace("/", os.sep)]
    assert capfd.readouterr() == ("", ""), "no progress bar where there is no terminal"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("drop", f"of {len(BODY):,} bytes"),
        ("wrong", "has SHA-256"),
        ("stall", "timed out"),
        ("404", "HTTP 404"),
        ("endless", f"has more of {len(BODY):,} bytes"),
    ],
)
def test_a_bad_answer_leaves_nothing_and_the_next_mirror_is_tried(server, tmp_path, way, said):
    message = failure(remote(server, way), tmp_path, timeout=0.3)
    assert said in message, f"say what went wrong; yours says {message!r}"
    assert files_in(tmp_path) == [], "a bad download must leave no file, not even a temporary one"
    assert fetch(remote(server, way, "good"), tmp_path, timeout=2) == BODY
    if way == "endless":
        assert server.hung_up.wait(timeout=5), "hang up on a body that is longer than the file"


def test_when_every_mirror_fails_the_message_names_each_reason(server, tmp_path):
    message = failure(remote(server, "404", "wrong", "drop"), tmp_path)
    assert server.requests == ["/404/data.txt", "/wrong/data.txt", "/drop/data.txt"]
    assert message.index("HTTP 404") < message.index("SHA-256") < message.index("bytes")


def test_offline_says_which_file_goes_where_and_what_is_built_in(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DLFP_DATA", str(tmp_path))
    dead = "http://127.0.0.1:9/names.txt"  # the discard port: nobody listens
    file = SOURCES["names"].files[0]._replace(urls=(dead,))
    monkeypatch.setitem(SOURCES, "names", Source("names", (file,)))
    with pytest.raises(ConnectionError) as caught:
        load_names("names")
    message = str(caught.value)
    assert "\n" not in message
    for part in ["names.txt", dead, str(tmp_path), "built-in colour names"]:
        assert part in message, f"{part!r} is missing in {message!r}"


def test_a_damaged_copy_is_noticed_when_read_and_replaced(server, tmp_path):
    file = remote(server, "good")
    fetch(file, tmp_path)
    copy = tmp_path / file.path
    for damaged in [BODY[:-1], BODY.replace(b"7", b"8", 1), b""]:
        copy.write_bytes(damaged)
        assert fetch(file, tmp_path) == BODY
        assert copy.read_bytes() == BODY
    copy.write_bytes(BODY[:-1])
    message = failure(file._replace(urls=(f"{server.url}/404",)), tmp_path)
    assert f"the copy in the cache has {len(BODY) - 1:,} of {len(BODY):,} bytes" in message
    assert (
        copy.read_bytes() == BODY[:-1]
    ), "what lies in the cache stays until something better comes"


def test_a_file_put_into_the_cache_by_hand_needs_no_network(tmp_path):
    file = RemoteFile("data.txt", len(BODY), hashlib.sha256(BODY).hexdigest(), ("http://[nowhere",))
    (tmp_path / "data.txt").write_bytes(BODY)
    assert fetch(file, tmp_path) == BODY


def test_two_processes_at_once_both_succeed(server, tmp_path):
    """The server answers neither process before both have asked."""
    code = (
        "import sys; from utils.data.download import RemoteFile, fetch; "
        "path, size, sha256, url, folder = sys.argv[1:]; "
        "file = RemoteFile(path, int(size), sha256, (url,)); "
        "sys.exit(fetch(file, folder)[:6] != b'line 0')"
    )
    path, size, sha256, urls = remote(server, "together")
    command = [sys.executable, "-c", code, path, str(size), sha256, urls[0], str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert len(server.requests) == 2
    assert files_in(tmp_path) == [str(Path(path))]
    assert (tmp_path / path).read_bytes() == BODY


def test_a_cache_that_cannot_be_written_is_explained(server, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(OSError, match="cannot keep data.txt in .*; set DLFP_DATA to a folder"):
        fetch(remote(server, "good"), blocker)
    assert blocker.read_text() == "not a folder"


def test_a_full_disk_leaves_what_was_there(server, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = remote(server, "good")
    copy = tmp_path / file.path
    copy.parent.mkdir()
    copy.write_bytes(b"damaged")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot keep data.txt .*No space left"):
        fetch(file, tmp_path)
    assert files_in(tmp_path) == [str(Path(file.path))]
    assert copy.read_bytes() == b"damaged"


def test_a_stall_is_given_up_in_time(server, tmp_path):
    start = time.perf_counter()
    failure(remote(server, "stall"), tmp_path, timeout=0.3)
    assert time.perf_counter() - start < 5


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DLFP_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("DLFP_DATA", "")
    assert cache_folder().is_absolute()
    assert cache_folder().name == "deep-learning-first-principles"


def test_names_win_over_paths(reference_data, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ["names.txt", "tinyshakespeare.txt"]:
        (cache / name).write_bytes((reference_data / name).read_bytes())
    monkeypatch.setenv("DLFP_DATA", str(cache))
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("my\nown\n")
    assert len(load_names("names")) == 32_033, "the bare name is the known data set"
    assert load_names("./names") == load_names(Path("names")) == ["my", "own"]
    text = load_text("tinyshakespeare")
    assert len(text) == 1_115_394
    assert text.startswith("First Citizen:")


def test_the_registry_agrees_with_the_reference_files(reference_data):
    for file in SOURCES["mnist"].files[2:]:
        content = (reference_data / Path(file.path).name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    hashes = [file.sha256 for source in SOURCES.values() for file in source.files]
    assert len(set(hashes)) == len(hashes) == 10
    assert all(len(bytes.fromhex(digest)) == 32 for digest in hashes)


def test_named_images_are_the_training_set_followed_by_the_test_set(tmp_path, monkeypatch):
    def packed(array: np.ndarray) -> bytes:
        sizes = struct.pack(f">{array.ndim}I", *array.shape)
        return gzip.compress(
            bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
        )

    labels = np.arange(7)
    images = np.broadcast_to(labels[:, None, None], (7, 28, 28))
    files = []
    for i, array in enumerate([images[:6], labels[:6], images[6:], labels[6:]]):
        content = packed(array)
        (tmp_path / str(i)).write_bytes(content)
        files.append(RemoteFile(str(i), len(content), hashlib.sha256(content).hexdigest(), ()))
    monkeypatch.setenv("DLFP_DATA", str(tmp_path))
    monkeypatch.setitem(SOURCES, "toy", Source("images", tuple(files)))
    data = load_images("toy")
    assert data.labels.tolist() == list(range(7))
    np.testing.assert_array_equal((data.images[:, 0, 0] * 255).round(), labels)
    assert split_images(data, 6)[1].labels.tolist() == [6]

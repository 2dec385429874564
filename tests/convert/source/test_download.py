"""Published weights come whole, or not at all; tested against a server on loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from densenet_convert.errors import WeightsUnavailableError
from densenet_convert.source.download import download

CONTENT = b"weights " * 5000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"densenet169-{DIGITS}.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    """A hub cache of the test's own."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


@contextmanager
def serving(content: bytes, *, status: int = 200, length: int | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/models/{NAME}"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_lands_in_torchs_hub_cache(cache: Path) -> None:
    with serving(CONTENT) as url:
        path = download(url, DIGITS, progress=False)
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT


def test_a_cached_file_is_not_downloaded_again(cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(b"cached")
    path = download(f"http://127.0.0.1:9/{NAME}", DIGITS, progress=False)
    assert path.read_bytes() == b"cached"


def test_a_download_draws_its_bar_on_stderr_and_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT) as url:
        download(url, DIGITS, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


@pytest.mark.parametrize(
    ("content", "status", "length", "message"),
    [
        (b"<html>", 200, None, "is not the published file, or was cut off"),
        (CONTENT[:-1], 200, None, "is not the published file, or was cut off"),
        (CONTENT[:-1], 200, len(CONTENT), "can't be downloaded|was cut off"),
        (b"", 404, None, "can't be downloaded: Not Found"),
        (b"", 503, None, "can't be downloaded: Service Unavailable"),
    ],
)
def test_a_failed_download_says_what_to_do_and_keeps_nothing(
    cache: Path, content: bytes, status: int, length: int | None, message: str
) -> None:
    with (
        serving(content, status=status, length=length) as url,
        pytest.raises(WeightsUnavailableError, match=message) as error,
    ):
        download(url, DIGITS, progress=False)
    assert "`checkpoint=...`" in str(error.value)
    assert "`weights='random'`" in str(error.value)
    assert list(cache.iterdir()) == []


def test_no_network_is_an_error_and_never_other_weights(cache: Path) -> None:
    with pytest.raises(
        WeightsUnavailableError, match=r"can't be downloaded: .*`checkpoint=.*`weights='random'`"
    ):
        download(f"http://127.0.0.1:9/{NAME}", DIGITS, progress=False)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(WeightsUnavailableError, match=r"checkpoints.* can't be written"):
        download(f"http://127.0.0.1:9/{NAME}", DIGITS, progress=False)

"""Getting a file from the network once, and never trusting it unseen.

A file is kept in the cache folder under its name. Whatever is read from there or comes over the
wire counts only when its SHA-256 is the expected one; only then is it written, under a temporary
name that is renamed when complete. So a broken connection, a wrong mirror, two processes at once or
a damaged disk can cost time but can never leave a wrong file that looks right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from utils.files import atomic_write

TIMEOUT = 20.0  # seconds without a byte before the next mirror is tried
CHUNK = 1 << 16


class RemoteFile(NamedTuple):
    """A file to download: its path under the cache folder, size in bytes, SHA-256, and mirrors."""

    path: str
    size: int
    sha256: str
    urls: tuple[str, ...]


def cache_folder() -> Path:
    """Return where downloads are kept: $DLFP_DATA, else a folder in the user's cache folder."""
    if os.environ.get("DLFP_DATA"):
        return Path(os.path.expanduser(os.environ["DLFP_DATA"]))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "deep-learning-first-principles"


def fetch(
    file: RemoteFile,
    folder: str | os.PathLike | None = None,
    timeout: float = TIMEOUT,
    alternative: str = "",
) -> bytes:
    """Return the verified content of `file`: from the cache `folder`, else from a mirror.

    Mirrors are tried in turn. `timeout` is in seconds and counts from the last byte; `alternative`
    ends the message of the ConnectionError that is raised when no mirror delivers. Raises OSError
    where the file cannot be kept.
    """
    path = (cache_folder() if folder is None else Path(folder)) / file.path
    problems = []
    try:
        if path.is_file():
            content = path.read_bytes()
            if not _difference(content, file):
                return content
            problems.append(f"the copy in the cache {_difference(content, file)}")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error

    for url in file.urls:
        try:
            content = _download(url, file, timeout)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{urllib.parse.urlsplit(url).netloc}: {_reason(error)}")
            continue
        try:
            with atomic_write(path) as output:
                output.write(content)
        except OSError as error:
            raise _unusable(path, error) from error
        return content
    raise ConnectionError(
        f"cannot download {path.name} ({'; '.join(problems)}): get {file.urls[0]} another way "
        f"and put it into {path.parent} as {path.name}{', ' if alternative else ''}{alternative}"
    )


def _download(url: str, file: RemoteFile, timeout: float) -> bytes:
    """Return the verified body at `url`, or raise an OSError or HTTPException that says why not."""
    body = bytearray()
    with urllib.request.urlopen(url, timeout=timeout) as response, tqdm(
        total=file.size, desc=file.path, unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        # One byte too many is enough to know that this is another file.
        while len(body) <= file.size:
            chunk = response.read(min(CHUNK, file.size + 1 - len(body)))
            if not chunk:
                break
            body += chunk
            bar.update(len(chunk))
    difference = _difference(body, file)
    if difference:
        raise OSError(f"what came {difference}")
    return bytes(body)


def _difference(content: bytes | bytearray, file: RemoteFile) -> str:
    """Say how `content` differs from what it should be; empty when it does not."""
    if len(content) != file.size:
        have = f"{len(content):,}" if len(content) < file.size else "more"
        return f"has {have} of {file.size:,} bytes"
    digest = hashlib.sha256(content).hexdigest()
    return "" if digest == file.sha256 else f"has SHA-256 {digest[:12]}…, not {file.sha256[:12]}…"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code}"
    text = str(error.reason if isinstance(error, urllib.error.URLError) else error)
    return " ".join(text.split()) or type(error).__name__


def _unusable(path: Path, error: OSError) -> OSError:
    advice = "set DLFP_DATA to a folder that you can write to"
    return OSError(f"cannot keep {path.name} in {path.parent} ({error}); {advice}")

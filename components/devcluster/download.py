"""Downloads pinned jars into a cache folder: concurrently, with checksums, safe for several processes at once."""

from __future__ import annotations

import logging
import re
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import tenacity

from tfx_cassandra.components.devcluster.cache import writing
from tfx_cassandra.components.errors import DevClusterError, invalid

MAVEN_CENTRAL = 'https://repo1.maven.org/maven2'

_CONNECTIONS = 8
_TIMEOUT = 60  # seconds without a byte
_PAUSE = 1.0  # seconds before the second and last attempt
Login = tuple[bytes, bytes]  # user, password
_LINE = re.compile(r'(?P<sha256>[0-9a-f]{64})  (?P<path>[\w.-]+(?:/[\w.-]+)*\.jar)')


@dataclass(frozen=True)
class Jar:
    """One pinned file: its SHA-256 sum in hex and its path below the repository's base URL."""

    sha256: str
    path: str

    @property
    def name(self) -> str:
        """Returns the file's own name."""
        return self.path.rpartition('/')[2]


def parse_jars(text: str) -> tuple[Jar, ...]:
    """Reads a pinned list: one `sha256  path` a line, `#` starts a comment line.

    Raises:
        ValueError: a line is neither a comment nor a sum with a relative path.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith('#'):
            continue
        match = _LINE.fullmatch(line)
        if match is None or '..' in match['path'].split('/'):
            raise invalid(f'jars line {number}', line, '64 hex digits, two spaces, a relative path of a jar')
        jars.append(Jar(**match.groupdict()))
    return tuple(jars)


def fetch_jars(
    jars: Sequence[Jar],
    folder: Path,
    base_url: str = MAVEN_CENTRAL,
    progress: Callable[[str], None] = lambda detail: None,
) -> list[Path]:
    """Returns the jars' paths below a folder, in order; downloads missing and damaged ones.

    Args:
        jars: the jars to provide.
        folder: the cache, laid out like the repository.
        base_url: the repository, or a mirror of it; a login such as https://user:password@host/path is sent as HTTP
            basic authentication and never shown.
        progress: called after each jar with the number of jars and the megabytes so far.

    Raises:
        DevClusterError: a jar cannot be downloaded, or its checksum is wrong; such a jar is not kept.
    """
    base_url, login = _without_login(base_url)
    paths, size, stopped = [folder / jar.path for jar in jars], 0, threading.Event()

    def ensure(jar: Jar, path: Path) -> int:
        if not stopped.is_set():
            _ensure(jar, path, f'{base_url.rstrip("/")}/{jar.path}', login)
        return path.stat().st_size if path.exists() else 0

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        futures = [pool.submit(ensure, jar, path) for jar, path in zip(jars, paths, strict=True)]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                size += future.result()
                count = f'{done}' if done == len(jars) else f'{done} of {len(jars)}'
                progress(f'{count} jars, {size / 1e6:.0f} MB')
        finally:  # after an error or Ctrl-C downloads that have not begun are cancelled
            stopped.set()
    return paths


def _without_login(url: str) -> tuple[str, Login | None]:
    """Returns a URL without its login, and the user and password of the login."""
    scheme, separator, rest = url.partition('://')
    login, at, host_and_path = rest.rpartition('@')  # the last @: a password may contain unescaped ones
    if not separator or scheme not in ('http', 'https'):
        shown = url.rpartition('@')[2]
        raise DevClusterError(f'TFX_CASSANDRA_MAVEN: got {shown!r}, rule: a URL of http or https')
    if not at:
        return url, None
    user, _, password = urllib.parse.unquote_to_bytes(login).partition(b':')
    return f'{scheme}://{host_and_path}', (user, password)


def _ensure(jar: Jar, path: Path, url: str, login: Login | None) -> None:
    damaged = path.exists() and pooch.file_hash(str(path)) != jar.sha256
    try:
        with writing():
            _retrieve(jar, path, url, login)
    except requests.RequestException as error:
        path.unlink(missing_ok=True)
        found = f'a damaged copy at {path}' if damaged else 'no copy in the cache'
        raise DevClusterError(
            f'jar {jar.name}: got {found}, rule: cached, or available at {url} ({_reason(error)})'
        ) from error
    except ValueError as error:
        path.unlink(missing_ok=True)
        got = str(error).partition(' but got ')[2][:64]
        raise DevClusterError(f'jar {jar.name}: got sha256 {got} from {url}, rule: sha256 {jar.sha256}') from error


def _is_transient(error: BaseException) -> bool:
    """Says whether a retry may succeed: the server failed or could not be reached, but did not refuse."""
    response = getattr(error, 'response', None)
    return isinstance(error, requests.RequestException) and (response is None or response.status_code >= 500)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_transient),
    stop=tenacity.stop_after_attempt(2),
    wait=lambda _: _PAUSE,
    reraise=True,
)
def _retrieve(jar: Jar, path: Path, url: str, login: Login | None) -> None:
    """Downloads a file with pooch unless it exists with the right checksum; the file appears atomically."""
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT, auth=login)
    pooch.retrieve(url, f'sha256:{jar.sha256}', path.name, path.parent, downloader=downloader)


def _reason(error: requests.RequestException) -> str:
    return f'HTTP {error.response.status_code}' if error.response is not None else type(error).__name__


pooch.get_logger().setLevel(logging.WARNING)  # at INFO it prints a line for each of the jars

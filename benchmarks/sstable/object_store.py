"""A server of S3's interface (moto) in a process of its own, and copies of snapshots in it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from environments import AbsentError, Packages, python_of
from pyarrow import fs

MOTO = Packages('moto', ('moto[server]==5.2.5',))
BUCKET = 'backups'
_ENVIRON = {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b', 'AWS_EC2_METADATA_DISABLED': 'true'}
_START = 60  # seconds


@contextlib.contextmanager
def serving(home: Path, host: str) -> Iterator[str]:
    """Runs a server on an address; yields `HOST:PORT`. Raises AbsentError where it cannot be had."""
    program = python_of(MOTO, home).with_name('moto_server')
    with socket.socket() as one:
        one.bind((host, 0))
        port = one.getsockname()[1]
    os.environ.update(_ENVIRON)
    (home / 'logs').mkdir(parents=True, exist_ok=True)
    with (home / 'logs' / 'moto.log').open('wb') as log:
        server = subprocess.Popen([program, '-H', host, '-p', str(port)], stdout=log, stderr=log)
        try:
            _wait(f'http://{host}:{port}/{BUCKET}')
            yield f'{host}:{port}'
        finally:
            server.terminate()
            server.wait(20)


def _wait(bucket: str) -> None:
    deadline = time.monotonic() + _START
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(bucket, method='PUT'), timeout=30).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AbsentError(f'moto_server: {error}') from error
            time.sleep(0.2)


def upload(endpoint: str, folder: Path, prefix: str) -> str:
    """Copies the files of a snapshot; returns the URI of the copy."""
    store = fs.S3FileSystem(endpoint_override=endpoint, scheme='http', region='us-east-1')
    for path in sorted(folder.iterdir()):
        with store.open_output_stream(f'{BUCKET}/{prefix}/{path.name}') as stream:
            stream.write(path.read_bytes())
    return f's3://{BUCKET}/{prefix}?endpoint_override={endpoint}&scheme=http&region=us-east-1'

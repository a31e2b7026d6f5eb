"""A stand-in for the endpoint of a hosted Cassandra: a metadata service, and a proxy that finds a node by its name.

A secure connect bundle names the metadata service. That asks for the bundle's certificate, and says where the proxy is
and which nodes there are. The proxy reads from a connection's first bytes for which node it is (the name that TLS sends
in the clear), and passes everything on to that node: TLS is spoken with the node itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import pathlib
import ssl
import threading
import zipfile
from collections.abc import Iterator

from authority import Authority
from proxy import Proxy

_CHUNK = 1 << 16


class NameProxy(Proxy):
    """Passes connections on to the node that a client names; a context manager.

    Attributes:
      asked: The names that clients have asked for.
    """

    def __init__(self, listen: tuple[str, int], node: tuple[str, int], name: str) -> None:
        super().__init__(listen, node)
        self._name, self.asked = name, list[str]()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                head = await reader.readexactly(5)  # type, version, length of a record
                hello = await reader.readexactly(int.from_bytes(head[3:], 'big'))
                self.asked.append(server_name(hello))
                if self.asked[-1] == self._name:
                    far_reader, far_writer = await asyncio.open_connection(*self._node)
                    far_writer.write(head + hello)
                    try:
                        await self._both(asyncio.ensure_future(_pump(reader, far_writer)),
                                         asyncio.ensure_future(_pump(far_reader, writer)))  # fmt: skip
                    finally:
                        far_writer.close()
        finally:
            writer.close()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()


def server_name(hello: bytes) -> str:
    """Returns the name that a ClientHello is for, '' for none (RFC 8446, section 4.1.2; RFC 6066, section 3)."""
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + hello[at]  # session
    at += 2 + int.from_bytes(hello[at : at + 2], 'big')  # cipher suites
    at += 1 + hello[at]  # compression
    at += 2
    while at < len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], 'big'), int.from_bytes(hello[at + 2 : at + 4], 'big')
        if kind == 0:
            return hello[at + 9 : at + 4 + size].decode()  # behind the list's length, the name's type and length
        at += 4 + size
    return ''


@contextlib.contextmanager
def metadata_service(address: str, authority: Authority, content: dict | bytes, status: int = 200) -> Iterator[int]:
    """Serves `/metadata` to clients with a certificate of an authority; yields the port."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == '/metadata' else 404)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.issue('metadata-service', address))
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def contact_info(proxy: tuple[str, int], nodes: list[str], center: str = 'dc1') -> dict:
    """Returns what the metadata service says of a cluster."""
    return {
        'version': 1, 'region': 'here',
        'contact_info': {
            'type': 'sni_proxy', 'local_dc': center, 'sni_proxy_address': f'{proxy[0]}:{proxy[1]}',
            'contact_points': nodes,
        },
    }  # fmt: skip


def bundle(path: pathlib.Path, service: tuple[str, int], ca_file: str, client: tuple[str, str], **config: str) -> str:
    """Writes a secure connect bundle; `config` are more entries of its config.json."""
    held = {'host': service[0], 'port': service[1], 'cqlPort': 29042, 'localDC': 'dc1', 'keyspace': 'any', **config}
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('config.json', json.dumps(held))
        for name, file in (('ca.crt', ca_file), ('cert', client[0]), ('key', client[1])):
            archive.write(file, name)
    return str(path)

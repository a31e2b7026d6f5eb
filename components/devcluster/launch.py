"""Starts nodes in parallel, waits until their ring is ready, and stops them."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfx_cassandra.components.devcluster import ready
from tfx_cassandra.components.devcluster.distribution import Distribution
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.errors import DevClusterError

START_SECONDS = 300  # timeout for a node to become ready
OFF_HEAP_BYTES = 0.6e9  # memory of a node besides its heap: class data, code, off-heap buffers


def check_ports(nodes: Sequence[Node]) -> None:
    """Raises a DevClusterError that names the first address and port of the nodes that is already in use."""
    for node in nodes:
        for field, (address, port) in node.listen_addresses.items():
            if not ready.is_free(address, port):
                rule = f'free for node {node.index + 1}; stop what listens there or give another {field}'
                raise DevClusterError(f'{field}: got {address}:{port} that is in use, rule: {rule}')


def check_memory(nodes: Sequence[Node], available: int) -> None:
    """Raises a DevClusterError if the nodes need more than the available bytes of memory."""
    wanted = sum(node.heap_bytes + OFF_HEAP_BYTES for node in nodes)
    if nodes and available < wanted:
        raise DevClusterError(
            f'heap: got {nodes[0].heap} for {len(nodes)} node(s) which takes {wanted / 1e9:.1f} GB, '
            f'rule: no more than the {available / 1e9:.1f} GB of memory that is available'
        )


def available_memory() -> int:
    """Returns the bytes of memory that are available without swapping."""
    kilobytes = re.search(r'MemAvailable:\s+(\d+) kB', Path('/proc/meminfo').read_text())
    return int(kilobytes[1]) * 1024 if kilobytes else 0


def start(
    ring: Sequence[Node],
    missing: Sequence[Node],
    java: Path,
    distribution: Distribution,
    progress: Callable[[str], None],
    exporter: Path | None = None,
) -> None:
    """Starts the missing nodes of a ring and returns when the whole ring is ready.

    Raises:
        DevClusterError: a node ended, or is not ready in time; the nodes that this call has started are stopped again,
          as after any other error.
    """
    log_sizes = {node: node.log_sizes() for node in missing}
    processes: dict[Node, subprocess.Popen[bytes]] = {}
    try:
        for node in missing:
            processes[node] = node.start(java, distribution, exporter)
        wait_ready(ring, progress, processes, log_sizes)
    except BaseException:  # Ctrl-C included
        stop(list(processes))
        raise


def wait_ready(
    ring: Sequence[Node],
    progress: Callable[[str], None] = lambda detail: None,
    processes: Mapping[Node, subprocess.Popen[bytes]] | None = None,
    log_sizes: Mapping[Node, Mapping[Path, int]] | None = None,
) -> None:
    """Waits until every node of a ring answers CQL and sees the others as up.

    Args:
        ring: all nodes of the ring, each of which has been started.
        progress: called with the number of nodes that are ready.
        processes: the nodes that are children of this process.
        log_sizes: bytes of the logs of earlier runs of a node.

    Raises:
        DevClusterError: a node ended, or is not ready after START_SECONDS.
    """
    deadline, waiting = time.monotonic() + START_SECONDS, list(ring)
    while waiting:
        late = time.monotonic() > deadline
        for node in waiting:
            if late or node.pid() is None:
                process = (processes or {}).get(node)
                what = f'not ready after {START_SECONDS} s' if late else _ending(process)
                error = node.last_error((log_sizes or {}).get(node, {}))
                raise DevClusterError(f'node {node.address}: {what}: {error} (logs in {node.log.parent})')
        waiting = [node for node in waiting if not ready.is_ready(node)]
        progress(f'{len(ring) - len(waiting)} of {len(ring)} answer CQL')
        if waiting:
            time.sleep(0.3)


def stop(nodes: Sequence[Node]) -> None:
    """Stops nodes in parallel; each flushes its memory to disk."""
    stopping = [(node, node.terminate()) for node in nodes]
    for node, pid in stopping:
        if pid is not None:
            node.wait_ended(pid)


def _ending(process: subprocess.Popen[bytes] | None) -> str:
    code = process.wait() if process else None
    if code is None:
        return 'ended'
    return f'ended with exit code {code}' if code >= 0 else f'killed by signal {-code}'

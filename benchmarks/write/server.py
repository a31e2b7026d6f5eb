"""The CPU seconds that the server used, where it runs on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

_CONFIG = re.compile(r'-Dcassandra\.config=file://([^\0]+)')


def cpu_seconds(address: str) -> float | None:
    """Returns the CPU seconds so far of the Cassandra that listens on an address; None if it is not found here."""
    for folder in Path('/proc').iterdir():
        config = _config(folder) if folder.name.isdigit() else None
        if config is not None and address in (config.get('rpc_address'), config.get('listen_address')):
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return None


def _config(process: Path) -> dict | None:
    try:
        found = _CONFIG.search((process / 'cmdline').read_text())
        return yaml.safe_load(Path(found[1]).read_text()) if found else None
    except OSError:  # it has just ended, or is another user's
        return None

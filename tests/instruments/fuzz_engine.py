"""Runs a target under libFuzzer, whose engine `tools/fuzz` has preloaded together with AddressSanitizer.

    python tests/instruments/fuzz_engine.py TARGET FOLDER RUNS [OPTION ...]

The seeds are written into FOLDER/TARGET/seeds, and what gives new coverage into FOLDER/TARGET/corpus. An input that
does not end in a result or an error of the package, or that a sanitizer reports, ends the process, and lies in
FOLDER/TARGET beside them.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import sys
import traceback
from pathlib import Path

import fuzz_targets

_Callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_LARGEST = {'rows': 4096, 'encode': 4096, 'sstable': 512}  # bytes of an input: smaller ones are tried faster


def main(name: str, folder: Path, runs: int, options: list[str]) -> int:
    target, seeds = fuzz_targets.TARGETS[name]
    for part in ('seeds', 'corpus'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in (*seeds(), *fuzz_targets.found(name)):
        if len(seed) <= 4096:  # the engine cuts it
            (folder / 'seeds' / hashlib.sha256(seed).hexdigest()[:32]).write_bytes(seed)
    view = ctypes.pythonapi.PyMemoryView_FromMemory
    view.restype, view.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
    refused, read_only = fuzz_targets.refused, 0x100

    def one(address: int, size: int) -> int:
        try:
            # The engine's own memory, so that a byte beyond it is seen.
            given = view(address, size, read_only) if size else memoryview(b'')
            refused(target, given)
            given.release()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os.abort()
        return 0

    arguments = [
        name, f'-runs={runs}', f'-max_len={_LARGEST[name]}', f'-artifact_prefix={folder}/', '-rss_limit_mb=4096',
        '-detect_leaks=0', '-print_final_stats=1', '-use_value_profile=0', *options, str(folder / 'corpus'),
        str(folder / 'seeds'),
    ]  # fmt: skip
    given = (ctypes.c_char_p * (len(arguments) + 1))(*map(os.fsencode, arguments), None)
    count, places = ctypes.c_int(len(arguments)), ctypes.cast(given, ctypes.POINTER(ctypes.c_char_p))
    gc.freeze()
    return ctypes.PyDLL(None).LLVMFuzzerRunDriver(ctypes.byref(count), ctypes.byref(places), _Callback(one))


if __name__ == '__main__':
    chosen, where, executions, *rest = sys.argv[1:]
    sys.exit(main(chosen, Path(where, chosen), int(executions), rest))

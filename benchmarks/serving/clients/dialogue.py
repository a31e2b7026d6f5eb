"""What every client does: it reads `features calls` line by line, and answers with the seconds of each call."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

KEYS, FEATURES = 200, 100
NAMES = [f'f{n}' for n in range(FEATURES)]


def value(key: int, feature: int) -> float:
    """Returns the value of a feature of a key."""
    return key + feature / 1000


def say(answer: Any) -> None:
    print(json.dumps({'answer': answer}), flush=True)


def serve(read: Callable[[int, list[str]], list[float]]) -> None:
    """Answers until the input ends.

    Args:
      read: Returns the newest values of some features of a key.
    """
    say('ready')
    for line in sys.stdin:
        features, calls = map(int, line.split())
        seconds = []
        for n in range(calls):
            key = n * 7 % KEYS
            began = time.perf_counter()
            found = read(key, NAMES[:features])
            seconds.append(time.perf_counter() - began)
            if found != [value(key, feature) for feature in range(features)]:
                raise SystemExit(f'key {key}: got {found[:3]}...')
        say(seconds)

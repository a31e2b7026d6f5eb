"""Lets a step import its own executor without TensorFlow and every other component of TFX, where it needs neither.

`import tfx.components.pusher.executor` first runs `tfx/components/__init__.py`, which imports all components, and every
module of TFX imports TensorFlow for a decorator of its documentation. Here both packages are put in place without
running their own files. A file runs as soon as a name is wanted that it would define, or, of TensorFlow, a submodule
other than its tools.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import threading
import types
from typing import Any

_ALONE = {'tensorflow': ('tensorflow.tools',)}  # submodules that do without the package's own file; of others: all


def install(executor: str) -> None:
    """Puts the packages in place, those that have not been imported.

    Args:
      executor: Class path of the executor that will run. For one of TFX's own, or of anybody else, `tfx.components` is
        imported as always: since TFX 1.21 its file also completes TensorFlow Model Analysis, which Evaluator needs.
    """
    own = executor.startswith('tfx_cassandra.')
    for package in ('tensorflow', 'tfx.components') if own else ('tensorflow',):
        spec = None if package in sys.modules else importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        module = _Light(package)
        module.__spec__, module.__path__, module.__file__ = spec, list(spec.submodule_search_locations), spec.origin
        module.__package__ = package
        sys.modules[package] = module
        parent, _, name = package.rpartition('.')
        if parent:
            setattr(sys.modules[parent], name, module)
        if package in _ALONE:
            sys.meta_path.insert(0, _Guard(module, _ALONE[package]))


class _Light(types.ModuleType):
    """A package whose own file runs when a name is wanted that no submodule has given it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__dict__['_light'] = threading.RLock()

    def run(self) -> None:
        """Runs the package's own file, once."""
        lock = self.__dict__.get('_light')
        if lock is None:
            return
        with lock:
            if self.__dict__.pop('_light', None) is not None:
                self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]

    def __reduce__(self) -> tuple[Any, ...]:
        # Functions of Beam pipelines refer to the module; pickle knows plain modules only.
        return importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith('__') and '_light' in self.__dict__:
            self.run()
            return getattr(self, name)
        raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')


class _Guard(importlib.abc.MetaPathFinder):
    """Runs a package's own file before a submodule is imported that may need it."""

    def __init__(self, module: _Light, alone: tuple[str, ...]) -> None:
        self._module, self._alone = module, alone

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.startswith(f'{self._module.__name__}.') and not fullname.startswith(self._alone):
            self._module.run()

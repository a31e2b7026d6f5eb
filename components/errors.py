"""The exceptions of this package. Every message is one line, in the form `field: got value, rule: the rule`.

ValueError / TypeError        an argument is wrong (see `invalid`), raised where the argument is given
TfxCassandraError             everything else
  UnavailableError            no contact point answers CQL
    CredentialsError          the cluster refuses the user
  SchemaError                 the live keyspace lacks a table, column or type
  ReadError                   a token range could not be read
    CoverageError             the ranges read do not tile the ring exactly once
  WriteError                  rows could not be written
  InputError                  a file of rows cannot be read
  DatasetError                rows cannot become examples
  RegistryError               a model version could not be claimed or recorded
  PipelineError               a compiled pipeline, or a step of it, cannot run
  DevClusterError             the development cluster cannot run
"""

from __future__ import annotations


class TfxCassandraError(Exception):
    """Root of every error this package raises for a reason other than a wrong argument."""


class UnavailableError(TfxCassandraError):
    """No contact point answered CQL."""


class CredentialsError(UnavailableError):
    """The cluster refused the user name, the password or the certificate."""


class SchemaError(TfxCassandraError):
    """The live keyspace lacks a table, column or type that is needed."""


class ReadError(TfxCassandraError):
    """A token range could not be read."""


class CoverageError(ReadError):
    """The ranges that were read do not tile the token ring exactly once."""


class WriteError(TfxCassandraError):
    """Rows could not be written."""


class InputError(TfxCassandraError):
    """A file of rows cannot be read."""


class DatasetError(TfxCassandraError):
    """Rows cannot be turned into examples."""


class RegistryError(TfxCassandraError):
    """A model version could not be claimed or recorded."""


class PipelineError(TfxCassandraError):
    """A compiled pipeline, or a step of it, cannot run."""


class DevClusterError(TfxCassandraError):
    """The development cluster cannot start, run or stop."""


def shown(value: object, max_length: int = 80) -> str:
    """Returns a value as a message shows it: its repr in one line, truncated to about `max_length` characters."""
    try:
        text = ' '.join(repr(value[: max_length + 1] if isinstance(value, (str, bytes)) else value).splitlines())
    except Exception as error:  # of a foreign class; or an integer with more digits than Python prints
        text = f'{type(value).__name__} without a repr ({type(error).__name__})'
    return text if len(text) <= max_length + 2 else f'{text[:max_length]}...'


def invalid(field: str, value: object, rule: str) -> ValueError:
    """Returns the error for a wrong argument, in the form of this package's messages."""
    return ValueError(f'{field}: got {shown(value, 500)}, rule: {rule}')

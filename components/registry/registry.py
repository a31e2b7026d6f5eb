"""The registry of model versions: claims of version numbers, a record of each version, and aliases of versions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from types import TracebackType

from tfx_cassandra.components.checks import Count, checked
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry.aliases import ANY, AliasMove, AnyMove, ModelAliases, Moves, unknown_alias
from tfx_cassandra.components.registry.claims import Claim, HeldClaim, ModelClaims
from tfx_cassandra.components.registry.session import RegistrySession
from tfx_cassandra.components.registry.versions import VERDICTS, ModelVersion, ModelVersions
from tfx_cassandra.components.window import TimeWindow

__all__ = ['ANY', 'VERDICTS', 'AliasMove', 'Claim', 'ModelRegistry', 'ModelVersion', 'unknown_alias']


class ModelRegistry:
    """Claims, records and lists model versions, and moves aliases; a context manager holding the process's session.

    Args:
      connection: The cluster and keyspace that hold `model_versions`, `model_claims` and `model_aliases`.
    """

    @checked
    def __init__(self, connection: CassandraConnection) -> None:
        self._session = RegistrySession(connection, (ModelClaims, ModelVersions, ModelAliases))
        self._claims = ModelClaims(self._session)
        self._versions = ModelVersions(self._session)
        self._aliases = ModelAliases(self._session, self._versions)

    def __enter__(self) -> ModelRegistry:
        self._session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def claim(self, experiment_id: str, model_id: str, digest: str) -> Claim:
        """Returns the version of one model's files, claiming a new one the first time.

        A digest always gets the same version, from any process. Different digests of a model get different versions,
        each greater than those claimed before it: the current Unix time in seconds, or the last version plus one if
        that is greater. So a version is a positive int64, as TensorFlow Serving requires, and its moment is unique
        among the versions of a model, as the key of `model_versions` requires.

        Raises:
          RegistryError: The cluster did not settle the claim in time.
        """
        return self._claims.claim(experiment_id, model_id, digest)

    def claimed(self, experiment_id: str, model_id: str, digest: str) -> Claim | None:
        """Returns the version of one model's files, or None if none was claimed for them."""
        return self._claims.claimed(experiment_id, model_id, digest)

    def claims(self, experiment_id: str, model_id: str) -> tuple[HeldClaim, ...]:
        """Returns every claim of a model, greater versions first."""
        return self._claims.claims(experiment_id, model_id)

    def last_version(self, experiment_id: str, model_id: str) -> int | None:
        """Returns the greatest version ever claimed for a model, released or not; None if there is none."""
        return self._claims.last_version(experiment_id, model_id)

    def release(self, experiment_id: str, model_id: str, held: HeldClaim) -> bool:
        """Releases a claim unless a push has started again since it was read, or its version is recorded.

        Returns:
          Whether it is released. The number is not used again: versions only grow.
        """
        if self._versions.is_recorded(experiment_id, model_id, held.claim):
            return False
        return self._claims.release(experiment_id, model_id, held)

    def record(self, version: ModelVersion) -> ModelVersion:
        """Writes a version's row unless it exists, and returns the stored row.

        An existing row is kept, so that a repeated push does not remove metrics that were added later. Only a row that
        repair wrote is completed by the next push.

        Raises:
          RegistryError: The row's key holds another version, or the cluster did not settle the write.
        """
        return self._versions.record(version)

    def add_metrics(
        self,
        experiment_id: str,
        model_id: str,
        version: str,
        metrics: Mapping[str, float],
        ab_test_group: str | None = None,
        verdict: str | None = None,
    ) -> ModelVersion:
        """Adds metrics to a recorded version, and returns the stored row.

        The call is idempotent. Metrics of other keys keep their values, and so do the arm and the verdict if neither is
        given. An arm is written together with its verdict, because both belong to one test: an arm without a verdict,
        such as a control, clears the verdict of an earlier test.

        Args:
          experiment_id: The version's experiment.
          model_id: The version's model.
          version: A recorded version.
          metrics: Finite values by key; an existing key gets the new value.
          ab_test_group: The arm that the version served.
          verdict: One of `VERDICTS`; without an arm, the arm is kept.

        Raises:
          ValueError: A value breaks its rule.
          RegistryError: The version is not recorded, or the cluster did not settle the write.
        """
        return self._versions.add_metrics(experiment_id, model_id, version, metrics, ab_test_group, verdict)

    def get(self, experiment_id: str, model_id: str, version: str) -> ModelVersion | None:
        """Returns one version of a model, or None."""
        return self._versions.get(experiment_id, model_id, version)

    def recorded(self, experiment_id: str, model_id: str, version: str) -> ModelVersion:
        """Returns one version of a model, read with SERIAL consistency, so that a write may be based on it.

        Raises:
          RegistryError: There is no such version.
        """
        return self._versions.recorded(experiment_id, model_id, version)

    def latest(self, experiment_id: str, model_id: str) -> ModelVersion | None:
        """Returns the newest recorded version of a model, or None."""
        return self._versions.latest(experiment_id, model_id)

    def list(self, experiment_id: str, window: TimeWindow | None = None) -> tuple[ModelVersion, ...]:
        """Returns an experiment's versions, newest first; with a window, those created in [start, end)."""
        return self._versions.list(experiment_id, window)

    def newest(
        self, experiment_id: str, limit: Count, before: datetime.datetime | None = None
    ) -> tuple[ModelVersion, ...]:
        """Returns an experiment's versions, newest first, `limit` at most: those created before a moment, or all."""
        return self._versions.newest(experiment_id, limit, before)

    def experiments(self, limit: Count = 1000) -> tuple[str, ...]:
        """Returns the experiments that have versions, sorted; `limit` of them at most."""
        return self._versions.experiments(limit)

    def alias(self, experiment_id: str, alias: str) -> AliasMove | None:
        """Returns the newest move of an alias, with the version that it points at; None for an unknown alias."""
        return self._aliases.alias(experiment_id, alias)

    def aliases(self, experiment_id: str) -> Moves:
        """Returns the newest move of each alias of an experiment, sorted by alias."""
        return self._aliases.aliases(experiment_id)

    def history(self, experiment_id: str, alias: str) -> Moves:
        """Returns every move of an alias, newest first."""
        return self._aliases.history(experiment_id, alias)

    def promote(
        self,
        experiment_id: str,
        alias: str,
        model_id: str,
        version: str,
        *,
        expected: AliasMove | AnyMove | None = ANY,
        reason: str | None = None,
    ) -> AliasMove:
        """Points an alias at a version, and returns its newest move.

        An alias that points at the version already is not moved, so the call is idempotent.

        Args:
          experiment_id: The experiment of alias and version.
          alias: Any name; an unknown one is created.
          model_id: The version's model.
          version: A recorded version.
          expected: The result of `alias` that the decision was based on: the alias is not moved if it has moved
            since. None means that it must not exist yet; by default it is moved from wherever it points.
          reason: Recorded with the move.

        Raises:
          RegistryError: The version is not recorded, the alias is not where it was expected, or the cluster did not
            settle the move.
        """
        return self._aliases.promote(experiment_id, alias, model_id, version, expected=expected, reason=reason)

    def advance(
        self, experiment_id: str, alias: str, model_id: str, version: str, *, reason: str | None = None
    ) -> AliasMove:
        """Points an alias at a version that was just pushed, once, and returns its newest move.

        Unlike `promote` it is safe to repeat at any later time: an alias that has ever pointed at the version, or that
        points at a later version of the same model, is not moved. So repeating a push undoes neither a rollback nor a
        later push.

        Raises:
          RegistryError: The version is not recorded, or the cluster did not settle the move.
        """
        return self._aliases.advance(experiment_id, alias, model_id, version, reason=reason)

    def rollback(
        self,
        experiment_id: str,
        alias: str,
        *,
        expected: AliasMove | AnyMove = ANY,
        reason: str | None = None,
    ) -> AliasMove:
        """Points an alias at the version before its latest promotion, and returns the new move.

        After promotions of A, B and C, the first rollback goes to B and the second to A.

        Args:
          experiment_id: The experiment of the alias.
          alias: Its name.
          expected: The result of `alias` that the decision was based on; by default its current move.
          reason: Recorded with the move.

        Raises:
          RegistryError: There is no such alias or no version before its current one, the alias has moved meanwhile, or
            the cluster did not settle the move.
        """
        return self._aliases.rollback(experiment_id, alias, expected=expected, reason=reason)

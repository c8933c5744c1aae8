"""After each rebalance: the users of the partitions that came, and where to read on."""

import json
import logging
from collections.abc import Mapping
from time import monotonic, perf_counter

from confluent_kafka import Message

from monitoring.metrics import Metrics
from stream.delivery import Committer, GenerationOver, StateChange
from stream.identity import Identity
from stream.intake import Assignment, Partition
from stream.recovery import BrokerSilent, RecoveryError, StartOffsets, read_changelog, undecided
from stream.settings import Settings
from stream.users import UserTable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""A partition without a leader gives no answer, and must not hold up for long a recovery of others."""
IDENTITY_KEY = b""
"""Key of the changelog record that says what its partition belongs to; no user id is empty."""


class Loader:
    """Brings the state of an assignment into memory; used by the commit thread.

    Attributes:
        read_at: When a record of the changelog last came, on the monotonic clock.

    Args:
        settings: Of the worker.
        identity: Of the cluster and the topics as they are now.
        n_partitions: Of the source topics.
        committer: Writes what a new partition's changelog begins with.
        metrics: Where recoveries and expired events are reported.
    """

    def __init__(
        self, settings: Settings, identity: Identity, n_partitions: int, committer: Committer, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._n_partitions = n_partitions
        self._committer = committer
        self._metrics = metrics
        self._offsets = StartOffsets(settings)
        self._expired_counted: set[Partition] = set()
        self.read_at = monotonic()

    def load(self, assignment: Assignment) -> UserTable:
        """Return the users whose home is in the assignment's partitions.

        Raises:
            RecoveryError: The changelog belongs to another cluster or to topics that are gone, or cannot be read.
            BrokerSilent: The broker does not answer.
            Outage: Likewise.
        """
        started = perf_counter()
        # An undecided transaction of this worker's own is decided first: what it did is part of what is read.
        self._committer.recover()
        self._end_hanging()
        users = UserTable(self._n_partitions, self._settings.sequence.max_users)
        identities: dict[int, bytes | None] = {}

        def apply(message: Message) -> None:
            self.read_at = monotonic()
            key, value = message.key(), message.value()
            if key == IDENTITY_KEY:
                # The last one counts: before it stand, until they are compacted, those of before a reset.
                identities[int(message.partition() or 0)] = value
            elif key is not None:
                users.restore(key.decode(), value)

        numbers = {partition.number for partition in assignment.partitions}
        n_records = read_changelog(self._settings, numbers, apply)
        for identity in identities.values():
            self._check(identity)
        self._begin(assignment, numbers - set(identities))
        seconds = perf_counter() - started
        self._metrics.observe_stage("recover", seconds)
        self._metrics.users.set(len(users))
        logger.info(
            "recovered generation=%d partitions=%d users=%d records=%d seconds=%.2f",
            assignment.generation,
            len(assignment.partitions),
            len(users),
            n_records,
            seconds,
        )
        return users

    def start_offsets(self, partitions: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where to read each partition from; what has expired before it was read is counted once.

        Raises:
            RecoveryError: A position lies beyond its log's end, or the broker does not answer.
        """
        offsets = self._offsets(partitions)
        for partition, n_events in offsets.expired.items():
            if partition not in self._expired_counted:
                self._expired_counted.add(partition)
                self._metrics.count_expired("user-events", n_events)
        return offsets.positions

    def close(self) -> None:
        """Close the connection."""
        self._offsets.close()

    def _end_hanging(self) -> None:
        """End what this worker has left open, in any partition: whoever holds that one now waits for it.

        After a start without a look: offsets that hang are seen nowhere, but by waiting for them in vain.
        """
        if self._committer.unsettled:
            self._committer.end_hanging(range(self._n_partitions))
            return
        # What others have open is theirs to decide, or their broker's: it only makes for a transaction in vain.
        try:
            hanging = undecided(self._settings, range(self._n_partitions), LOOK_SECONDS)
        except BrokerSilent as error:  # of a partition that is another's, perhaps: our own will be asked for next
            logger.warning("open transactions cannot be looked for: %s", error)
            return
        if hanging:
            logger.info("ending what may be left open partitions=%d", len(hanging))
            self._committer.end_hanging(sorted(hanging))

    def _check(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            kept = Identity.loads(value)
        except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise RecoveryError(
                f"{self._settings.user_state_topic} holds an identity that cannot be read: {error}"
            ) from error
        if (difference := self._identity.difference(kept)) is not None:
            raise RecoveryError(
                f"the users' states were made from other topics: {difference}; "
                "`millstream reset --offsets` keeps users and weights and starts from what is there"
            )

    def _begin(self, assignment: Assignment, unidentified: set[int]) -> None:
        """Write what a changelog partition begins with, and where reading began, in one transaction.

        Without the second, a worker that starts at `latest` and is killed before its first commit would start at a
        later `latest`, and what came between would be lost.
        """
        new = frozenset(partition for partition in assignment.partitions if partition.number in unidentified)
        if not new:
            return
        changes = [StateChange(number, IDENTITY_KEY, self._identity.dumps()) for number in sorted(unidentified)]
        try:
            self._committer.commit(changes, self._offsets(new, self._settings.start_ms()).positions, assignment)
        except GenerationOver as over:
            logger.info("generation=%d is over before it began: %s", assignment.generation, over)

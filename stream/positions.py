"""Positions of the trainer in transactions: how it finds out that it was replaced, before it writes a checkpoint."""

import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from stream.client_errors import FENCED, GROUP_MOVED_ON, retried
from stream.delivery import RETRY_BACKOFF_MS, TRANSACTION_RECOVERY
from stream.settings import Settings
from stream.trainer_errors import TrainerError, TrainerFenced

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""One request; between two of them a stop is noticed."""
HANG_SECONDS = 60.0


class NotCommitted(RuntimeError):
    """The position could not be committed just now; another attempt may."""


class Positions:
    """Commits positions with the transactional id that all trainers of an application share.

    Thread-safe; one call at a time.

    A call that hangs in the client all the same ends the trainer, which a supervisor starts again with a client that
    works: a trainer that writes no checkpoints any more must not look alive.
    """

    def __init__(self, settings: Settings) -> None:
        self._id = f"{settings.app_id}-trainer"
        self._patience = settings.kafka.transaction_timeout_seconds
        self._producer = Producer(
            {
                **settings.librdkafka(),
                "transactional.id": self._id,
                "transaction.timeout.ms": int(settings.kafka.transaction_timeout_seconds * 1000),
                "retry.backoff.ms": RETRY_BACKOFF_MS,
                **TRANSACTION_RECOVERY,
                **settings.kafka.properties,
                "log_level": 0,  # its errors come as exceptions; the consumer tells about connections
            }
        )
        self._committing = False
        self._lock = threading.Lock()

    def take_over(self) -> None:
        """Fence every other holder of the transactional id; may be called again when it was interrupted.

        Raises:
            KafkaException: The broker does not answer, or refuses.
        """
        self._producer.init_transactions(ANSWER_SECONDS)

    def commit(self, position: TopicPartition, group_metadata: object) -> None:
        """Commit one position.

        Args:
            position: Topic, partition and offset to read next.
            group_metadata: Of the consumer that read up to there.

        Raises:
            TrainerFenced: Another trainer has taken over; nothing may be written any more.
            TrainerError: This client can commit nothing any more.
            NotCommitted: The broker is away, or the group is changing.
        """
        self._bounded(lambda: self._commit(position, group_metadata))

    def prove(self, position: TopicPartition, group_metadata: object) -> None:
        """Find out whether this is still the one trainer, by a transaction that is aborted.

        Raises:
            TrainerFenced: It is not.
            TrainerError: This client cannot find out any more.
            NotCommitted: The broker does not say.
        """
        self._bounded(lambda: self._prove(position, group_metadata))

    def _commit(self, position: TopicPartition, group_metadata: object) -> None:
        try:
            self._begin(position, group_metadata)
            self._end()
        except KafkaException as error:
            self._give_up(error)

    def _prove(self, position: TopicPartition, group_metadata: object) -> None:
        try:
            self._begin(position, group_metadata)
            self._retried(self._producer.abort_transaction, ANSWER_SECONDS)
        except KafkaException as error:
            try:
                self._give_up(error)
            except NotCommitted:
                if error.args[0].code() not in GROUP_MOVED_ON:  # those come after the transactional id was accepted
                    raise

    def _bounded(self, call: Callable[[], None]) -> None:
        """Call in a thread that may be left behind."""
        failures: list[Exception] = []

        def run() -> None:
            try:
                call()
            except Exception as error:  # raised again by the caller
                failures.append(error)

        with self._lock:
            thread = threading.Thread(target=run, name="transaction", daemon=True)
            thread.start()
            thread.join(HANG_SECONDS)
            if thread.is_alive():
                raise TrainerError(
                    f"a transaction of {self._id} hangs in the Kafka client: the trainer has to start again"
                )
        if failures:
            raise failures[0]

    def _begin(self, position: TopicPartition, group_metadata: object) -> None:
        if self._committing:  # an earlier commit that was not answered has to be finished first
            self._end()
        self._producer.begin_transaction()
        self._retried(self._producer.send_offsets_to_transaction, [position], group_metadata, ANSWER_SECONDS)

    def _end(self) -> None:
        self._committing = True
        self._retried(self._producer.commit_transaction, ANSWER_SECONDS)
        self._committing = False

    def _give_up(self, error: KafkaException) -> None:
        reason = error.args[0]
        fenced = _is_fenced(reason)
        if not self._committing or reason.txn_requires_abort():
            try:
                self._retried(self._producer.abort_transaction, ANSWER_SECONDS)
                self._committing = False
            except KafkaException as abort_error:
                logger.warning("abort transactional_id=%s error=%s", self._id, abort_error.args[0])
                reason = abort_error.args[0] if abort_error.args[0].fatal() else reason
                fenced = fenced or _is_fenced(reason)
        if fenced:
            raise TrainerFenced(f"another trainer has taken over {self._id}: {reason.str()}") from error
        if reason.fatal():  # such as a broker that came back without the transaction: this client can do no more
            raise TrainerError(f"transactions of {self._id} cannot go on: {reason.str()}") from error
        raise NotCommitted(f"the position could not be committed: {reason.str()}") from error

    def _retried(self, call: Callable[..., None], *arguments: object) -> None:
        retried(call, *arguments, patience_seconds=self._patience)


def _is_fenced(error: KafkaError) -> bool:
    return error.code() in FENCED or (error.fatal() and "fenced" in error.str().lower())

"""The layers of user states against one plain dictionary, whatever is pushed, committed and dropped when."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream.state import EMPTY, UserState, encode_state
from stream.users import Overlay, UserTable, home_partition

USERS = [f"user {number}" for number in range(8)]
MAX_USERS = 5


class Layers(RuleBasedStateMachine):
    """Batches are pushed in order; a transaction takes the oldest ones; a discard drops all that is not committed."""

    def __init__(self) -> None:
        super().__init__()
        self.table = UserTable(3, MAX_USERS)
        self.committed: dict[str, UserState] = {}
        self.pushed: list[Overlay] = []
        self.changelog: dict[str, bytes] = {}
        self.clock = 0

    def state(self) -> UserState:
        self.clock += 1
        return UserState(applied={"t": self.clock})

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=4, unique=True))
    def publish(self, users: list[str]) -> None:
        overlay = {user: self.state() for user in users}
        self.table.push(overlay)
        self.pushed.append(overlay)

    @precondition(lambda self: self.pushed)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        n_batches = data.draw(st.integers(1, len(self.pushed)))
        taken, self.pushed = self.pushed[:n_batches], self.pushed[n_batches:]
        changes = self.table.changes(taken)
        assert all(change.partition == home_partition(change.key.decode(), 3) for change in changes)
        self.table.commit(taken, changes)
        for overlay in taken:
            self.committed.update(overlay)
        for change in changes:
            user = change.key.decode()
            if change.value is None:
                assert not any(user in overlay for overlay in (*taken, *self.pushed)), "an active user was evicted"
                del self.committed[user], self.changelog[user]
            else:
                self.changelog[user] = change.value

    @rule()
    def discard_and_recover(self) -> None:
        """After a rebalance a table is built anew from the changelog: what was not committed is not in it."""
        self.table = UserTable(3, MAX_USERS)
        for user, value in self.changelog.items():
            self.table.restore(user, value)
        self.pushed = []

    @invariant()
    def every_user_is_found_in_the_newest_layer(self) -> None:
        expected = dict(self.committed)
        for overlay in self.pushed:
            expected.update(overlay)
        for user in USERS:
            assert self.table.get(user) == expected.get(user, EMPTY)
        own = {USERS[0]: UserState(newest=1)}
        assert self.table.get(USERS[0], own) is own[USERS[0]]

    @invariant()
    def memory_has_a_ceiling(self) -> None:
        # who is in a batch that is not committed yet cannot leave
        assert len(self.table) <= MAX_USERS + len({user for overlay in self.pushed for user in overlay}) + 4


Layers.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLayers = Layers.TestCase


@given(st.text(min_size=1, max_size=20), st.integers(1, 64))
def test_a_home_is_a_partition(user: str, n_partitions: int) -> None:
    assert 0 <= home_partition(user, n_partitions) < n_partitions


def test_homes_are_those_of_java_clients() -> None:
    """Known answers of Kafka's own `Utils.murmur2` (its UtilsTest), masked and modulo 1000."""
    murmur2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    for key, value in murmur2.items():
        assert home_partition(key, 1000) == (value & 0x7FFFFFFF) % 1000


def test_the_least_recently_active_user_leaves_first() -> None:
    table = UserTable(1, 2)
    for user in ("a", "b", "a", "c"):
        overlay = {user: UserState(newest=1)}
        table.push(overlay)
        changes = table.changes([overlay])
        table.commit([overlay], changes)
    assert list(table) == ["a", "c"]
    assert encode_state(table.get("b")) == encode_state(EMPTY)

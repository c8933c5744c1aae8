from hypothesis import given
from hypothesis import strategies as st

from online_model import clock as module
from online_model.clock import StreamClock


@given(st.lists(st.integers(-(2**40), 2**53), max_size=120), st.integers(1, 25), st.integers(0, 120))
def test_is_the_middle_of_the_last_times_across_save_and_load(times, half, reload_at):
    span, module.SPAN = module.SPAN, 2 * half + 1
    try:
        clock = StreamClock()
        assert clock.now is None
        for index, time in enumerate(times):
            if index == reload_at:
                state, clock = clock.state(), StreamClock()
                clock.load_state(state)
            clock.observe(time)
            last = sorted(times[max(0, index + 1 - module.SPAN) : index + 1])
            assert clock.now == last[(len(last) - 1) // 2]
    finally:
        module.SPAN = span


def test_a_minority_of_wrong_times_does_not_move_it():
    clock = StreamClock()
    for n in range(1001):
        clock.observe(1_700_000_000_000 + n if n % 3 else 0)
    assert clock.now is not None
    assert clock.now >= 1_700_000_000_000

from hypothesis import given
from hypothesis import strategies as st

from online_model.checkpoint import retained


@given(st.integers(1, 6000), st.integers(1, 5), st.integers(0, 8))
def test_however_long_it_runs_a_checkpoint_of_each_age_is_there(n, keep, spaced):
    """Saved and pruned one after the other; keep the last multiple of 8 alone, and ages are missing.

    Red where only the latest are kept.
    """
    numbers: list[int] = []
    for number in range(max(1, n - 1100), n + 1):
        kept = retained([*numbers, number], keep, spaced)
        numbers = [each for each in [*numbers, number] if each in kept]
    assert numbers[-keep:] == list(range(max(1, n - 1099, n - keep + 1), n + 1))[-keep:]
    assert len(numbers) <= keep + spaced
    for level in range(1, spaced // 2 + 1):
        age = 8**level
        if 2 * age < min(n, 1100):
            assert any(age <= n - number < 2 * age for number in numbers), (age, numbers)

"""From what is known about candidates to the numbers that a ranker sees: one pass, in place."""

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints
from online_model.candidates.similarity import SIMILARITIES

SIGNALS = (
    "neural_score",
    "neural_rank",
    "next_share",
    "next_count",
    "rules_share",
    "all_rules_share",
    "back_count",
    "vsknn",
    "stan",
    "popular_500",
    "popular_5k",
    "popular_50k",
    "age",
    "unseen_for",
    "in_sitting",
    "sitting_place",
    "in_history",
    "history_place",
    "visits",
    *SIMILARITIES,
)
"""What is known about a candidate, in the order of the columns."""

FACTS = ("next_total", "rules_total", "neighbours_total", "sitting_length", "current_popularity", "pause", "confidence")
"""What is known about a query, in the order of the columns."""

N_SIGNALS = len(SIGNALS)

# Logarithms of shares and of faded counts start where these stand, so that "nothing known" is 0.
_SHARE_FLOOR, _COUNT_FLOOR = np.float32(1e-3), np.float32(1e-2)
_LOG_SHARE_FLOOR, _LOG_COUNT_FLOOR = np.float32(np.log(1e-3)), np.float32(np.log(1e-2))
_AGE_MIDDLE, _UNSEEN_MIDDLE = np.float32(8.0), np.float32(6.0)
_ONE, _TWO, _TINY = np.float32(1.0), np.float32(2.0), np.float32(1e-6)
# The place from which on a list is long, for how sure the recurrent model is of its first.
_LAST_LISTED = 19


@njit(cache=True)
def count_signals(
    rows: Ints, followed: Floats, totals: Floats, back: Floats, like: Floats, seen: Floats, places: Ints
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the signals of the counts and the like-minded sittings' total, all others of both still 0.

    Args:
        rows: Candidates, -1 beyond the last, int32 [n_queries, n_candidates].
        followed: What came after the sitting: directly, by rules, by all rules, [n_queries, n_candidates, 3].
        totals: What was counted after the current item: directly, by rules, [n_queries, 2].
        back: How often the current item came after the candidate, as `rows`.
        like: What like-minded sittings say, [n_queries, n_candidates, 2].
        seen: From `Trends.look_up`, [n_queries, n_candidates, 5].
        places: From `history_places`, int32 [n_queries, n_candidates, 3].

    Returns:
        Signals, float32 [n_queries, n_candidates, n_signals], and totals [n_queries].
    """
    n_queries, n_candidates = rows.shape
    signals = np.zeros((n_queries, n_candidates, N_SIGNALS), np.float32)
    liked = np.zeros(n_queries, np.float32)
    for query in range(n_queries):
        all_rules, vsknn, stan = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for column in range(n_candidates):
            all_rules += followed[query, column, 2]
            vsknn += like[query, column, 0]
            stan += like[query, column, 1]
        liked[query] = np.log1p(vsknn)
        for column in range(n_candidates):
            if rows[query, column] < 0:
                continue
            found, known = signals[query, column], followed[query, column]
            found[2] = _share(known[0], totals[query, 0] + _TWO)
            found[3] = _log(known[0])
            found[4] = _share(known[1], totals[query, 1] + _ONE)
            found[5] = _share(known[2], all_rules + _ONE)
            found[6] = _log(back[query, column])
            found[7] = _share(like[query, column, 0], vsknn + _TINY)
            found[8] = _share(like[query, column, 1], stan + _TINY)
            for speed in range(3):
                found[9 + speed] = np.log(seen[query, column, speed] + _COUNT_FLOOR) - _LOG_COUNT_FLOOR
            found[12] = _log(seen[query, column, 3]) - _AGE_MIDDLE
            found[13] = _log(seen[query, column, 4]) - _UNSEEN_MIDDLE
            sitting, older, visits = places[query, column]
            found[14], found[15] = np.float32(sitting > 0), _log(np.float32(sitting))
            found[16], found[17] = np.float32(older > 0), _log(np.float32(older))
            found[18] = _log(np.float32(visits))
    return signals, liked


@njit(cache=True)
def model_signals(
    rows: Ints, scores: Floats, similarities: Floats, n_neural: int, signals: Floats, confidence: Floats
) -> None:
    """Write what the recurrent model says of each candidate, and how sure it is of its first; arguments as there.

    Args:
        rows: Candidates, -1 beyond the last, the retrieved first and in order.
        scores: Theirs, anything beyond the last.
        similarities: Theirs, anything beyond the last.
        n_neural: How many were retrieved; all others are somewhere behind them.
        signals: Written.
        confidence: Written, float32 [n_queries].
    """
    n_queries, n_candidates = rows.shape
    last = min(_LAST_LISTED, n_candidates - 1)
    for query in range(n_queries):
        for column in range(n_candidates):
            if rows[query, column] < 0:
                continue
            found = signals[query, column]
            found[0] = scores[query, column]
            found[1] = -_log(np.float32(min(column, n_neural)))
            found[N_SIGNALS - 2] = similarities[query, column, 0]
            found[N_SIGNALS - 1] = similarities[query, column, 1]
        confidence[query] = 0.0 if rows[query, last] < 0 else scores[query, 0] - scores[query, last]


@njit(cache=True)
def _log(value: np.float32) -> np.float32:
    """Of 1 + value: most values are 0, and a logarithm takes longer than to see that."""
    return np.log1p(value) if value != 0.0 else np.float32(0.0)


@njit(cache=True)
def _share(value: np.float32, total: np.float32) -> np.float32:
    return np.log(value / total + _SHARE_FLOOR) - _LOG_SHARE_FLOOR if value != 0.0 else np.float32(0.0)

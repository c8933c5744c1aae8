"""The ranker on candidates made up by hand, and on streams in which one signal tells what comes."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from online_model.candidates.evidence import Examined
from online_model.candidates.signals import FACTS, SIGNALS
from online_model.forecasts import forecasts
from online_model.protocol import FORECAST_BOUNDS, ModelDiverged, State
from online_model.ranker import MIN_OUTCOMES, Ranker

LEARNED = ("network", "gated", "linear")
NEURAL, PLACE, VSKNN = (SIGNALS.index(name) for name in ("neural_score", "sitting_place", "vsknn"))


def made(seed: int, n_queries: int = 8, n_candidates: int = 6) -> Examined:
    """Candidates with signals drawn at random, in nobody's sitting; the last of each second query is missing."""
    drawn = np.random.default_rng(seed)
    rows = np.tile(np.arange(n_candidates, dtype=np.int32), (n_queries, 1))
    rows[1::2, -1] = -1
    signals = drawn.standard_normal((n_queries, n_candidates, len(SIGNALS))).astype(np.float32)
    signals[..., PLACE] = 0.0
    signals[rows < 0] = 0.0
    facts = drawn.standard_normal((n_queries, len(FACTS))).astype(np.float32)
    return Examined(rows, np.where(rows < 0, -1, 0).astype(np.int8), signals, facts)


def ranker(config, kind: str = "network", **changes: object) -> Ranker:
    generator = torch.Generator().manual_seed(3)
    return Ranker(replace(config, **{"ranking": kind, "batch_size": 8, **changes}), generator)  # type: ignore[arg-type]


def teach(learning: Ranker, examined: Examined, places: npt.NDArray[np.int64]) -> None:
    learning.apply(learning.lesson(examined, places, np.ones(len(places), np.float32)))


def same(one: State, other: State) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return one.metadata == other.metadata and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


@pytest.mark.parametrize("kind", LEARNED)
def test_it_starts_as_the_neural_score_alone(config, kind):
    examined = made(1)
    scores = ranker(config, kind).scores(examined)
    there = examined.rows >= 0
    np.testing.assert_allclose(scores[there], examined.signals[..., NEURAL][there], rtol=1e-5, atol=1e-6)
    assert (scores[~there] == -np.inf).all()


@pytest.mark.parametrize("kind", LEARNED)
def test_answers_come_from_the_network_that_lessons_improve(config, kind):
    """Answers are computed in another way than lessons. Seen red: without a bias, without a layer, without the mean."""
    learning = ranker(config, kind)
    for seed in range(20):
        teach(learning, made(seed), np.arange(8) % 5)
    examined = made(99)
    with torch.no_grad():
        expected = learning._score(torch.from_numpy(examined.signals), torch.from_numpy(examined.facts) * 0.2)
    there = examined.rows >= 0
    np.testing.assert_allclose(learning.scores(examined)[there], expected.numpy()[there], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LEARNED)
def test_a_lesson_changes_nothing_until_it_is_applied(config, kind):
    learning, examined = ranker(config, kind), made(1)
    before, scores = learning.state(), learning.scores(examined)
    copies = [part.copy() for part in (examined.rows, examined.signals, examined.facts)]
    places, weights = np.array([0, 1, 2, -1, 3, 4, 5, 0]), np.ones(8, np.float32)
    step = learning.lesson(examined, places, weights)
    assert same(learning.state(), before)
    again = learning.lesson(examined, places, weights)
    assert again.loss == step.loss
    assert all(gradient.equal(again.gradients[name]) for name, gradient in step.gradients.items())
    learning.apply(step)
    assert not np.array_equal(learning.scores(examined), scores)
    assert learning.n_outcomes == 8
    for part, copy in zip((examined.rows, examined.signals, examined.facts), copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_the_loss_is_that_of_a_softmax_over_the_candidates_that_are_there(config):
    examined = made(4)
    places = np.array([0, 1, -1, 2, 3, 4, 5, -1])
    weights = np.array([1, 0.5, 9, 1, 1, 2, 1, 9], np.float32)
    step = ranker(config, "linear").lesson(examined, places, weights)
    losses = []
    for line in np.flatnonzero(places >= 0):
        scores = examined.signals[line, examined.rows[line] >= 0, NEURAL]
        losses.append(np.log(np.exp(scores).sum()) - scores[places[line]])
    assert step.loss == pytest.approx(np.mean(losses), rel=1e-5)
    there = examined.signals[examined.rows >= 0]
    np.testing.assert_allclose(step.mean.numpy(), there.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(step.variance.numpy(), there.var(0), rtol=1e-4, atol=1e-5)
    assert step.n_outcomes == 8


def test_a_lesson_of_twice_the_weight_has_twice_the_gradient(config):
    learning, examined, places = ranker(config), made(4), np.array([0, 1, -1, 2, 3, 4, 5, -1])
    once, twice = (learning.lesson(examined, places, np.full(8, weight, np.float32)) for weight in (1.0, 2.0))
    for name, gradient in once.gradients.items():
        np.testing.assert_allclose(twice.gradients[name], 2 * gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", LEARNED)
def test_it_learns_whom_to_believe(config, kind):
    """The candidate that one signal puts highest is always taken; the neural score knows nothing."""
    learning = ranker(config, kind, ranking_learning_rate=0.02)
    examined = made(99, n_queries=64)
    right = np.where(examined.rows >= 0, examined.signals[..., VSKNN], -np.inf).argmax(1)

    def n_right() -> int:
        return int((learning.scores(examined).argmax(1) == right).sum())

    before = n_right()
    for seed in range(200):
        lesson = made(seed, n_queries=8)
        teach(learning, lesson, np.where(lesson.rows >= 0, lesson.signals[..., VSKNN], -np.inf).argmax(1))
    assert before < 25
    assert n_right() > 55


def test_gates_learn_from_what_is_known_about_the_query(config):
    """One signal is to be believed in half of the queries, its opposite in the others: no fixed weights can."""
    right = {}
    for kind in ("linear", "gated"):
        learning = ranker(config, kind, ranking_learning_rate=0.05)
        for seed in range(300):
            examined = made(seed)
            sign = np.sign(examined.facts[:, :1])
            target = np.where(examined.rows >= 0, examined.signals[..., VSKNN] * sign, -np.inf).argmax(1)
            if seed >= 250:
                right[kind] = right.get(kind, 0) + int((learning.scores(examined).argmax(1) == target).sum())
            teach(learning, examined, target)
    assert right["gated"] > 240 > 150 > right["linear"]


@pytest.mark.parametrize("repeats", [False, True])
def test_the_item_that_the_user_is_on_is_no_rival(config, repeats):
    """Unless it is the target, or people may stay; the one before it always is one."""
    examined = made(5)
    latest, former = np.log1p(1), np.log1p(2)
    examined.signals[:, 0, PLACE], examined.signals[:, 1, PLACE] = latest, former
    losses = []
    for line, place in ((0, 2), (0, 0)):
        places = np.full(8, -1)
        places[line] = place
        loss = ranker(config, "linear", repeats=repeats).lesson(examined, places, np.ones(8, np.float32)).loss
        rivals = [column for column in range(6) if repeats or column != 0 or place == 0]
        scores = examined.signals[line, rivals, NEURAL]
        assert loss == pytest.approx(np.log(np.exp(scores).sum()) - examined.signals[line, place, NEURAL], rel=1e-5)
        losses.append(loss)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("part", "line"), [("signals", 0), ("signals", 3), ("facts", 0), ("facts", 3)])
def test_a_number_that_is_not_finite_raises_and_changes_nothing(config, kind, bad, part, line):
    """Also in a query whose target was not found, from which no order is learned."""
    learning, examined = ranker(config, kind), made(1)
    teach(learning, examined, np.zeros(8, np.int64))
    before = learning.state()
    places = np.array([0, 1, 2, -1, 3, 4, 5, 0])
    getattr(examined, part)[line, ..., 2] = bad
    with pytest.raises(ModelDiverged, match="over 8 queries: it, a gradient or a signal is not finite"):
        learning.lesson(examined, places, np.ones(8, np.float32))
    assert same(learning.state(), before)


@pytest.mark.parametrize("kind", LEARNED)
def test_where_no_target_was_found_no_order_is_learned(config, kind):
    learning, examined = ranker(config, kind), made(1)
    scores = learning.scores(examined)
    step = learning.lesson(examined, np.full(8, -1), np.ones(8, np.float32))
    assert step.loss is None
    assert {name for name, gradient in step.gradients.items() if gradient.any()} == {"found"}
    learning.apply(step)
    np.testing.assert_allclose(learning.scores(examined), scores, rtol=1e-5, atol=1e-5)
    assert learning.n_outcomes == 8


def drawn_stream(number: int, n_queries: int = 64) -> tuple[Examined, npt.NDArray[np.int64]]:
    """Targets drawn by softmax of half the neural score; found more often the higher one fact is."""
    examined, drawn = made(number, n_queries), np.random.default_rng(10_000 + number)
    weights = np.where(examined.rows >= 0, np.exp(0.5 * examined.signals[..., NEURAL]), 0.0)
    places = (weights.cumsum(1) / weights.sum(1, keepdims=True) > drawn.random((n_queries, 1))).argmax(1)
    found = drawn.random(n_queries) < 1 / (1 + np.exp(-1.0 - examined.facts[:, 0]))
    return examined, np.where(found, places, -1)


@pytest.fixture
def calibrated(config) -> Ranker:
    learning = ranker(config, "linear", batch_size=64, ranking_learning_rate=0.05)
    for number in range(250):
        teach(learning, *drawn_stream(number))
    return learning


def test_probabilities_mean_what_they_say(calibrated):
    chances, outcomes = [], []
    for number in range(250, 310):
        examined, places = drawn_stream(number)
        scores = calibrated.scores(examined)
        found = calibrated.probabilities(examined, scores)
        assert found is not None
        assert found.min() >= 0.0
        assert (found.sum(1) <= 1 + 1e-5).all()
        assert not found[examined.rows < 0].any()
        taken = np.zeros_like(found)
        taken[np.flatnonzero(places >= 0), places[places >= 0]] = 1.0
        chances.append(found.ravel())
        outcomes.append(taken.ravel())
    chance, outcome = np.concatenate(chances), np.concatenate(outcomes)
    bins = np.minimum((chance * 20).astype(int), 19)
    shares = [(bins == number).mean() for number in range(20)]
    gaps = [abs(chance[bins == n].mean() - outcome[bins == n].mean()) if shares[n] else 0.0 for n in range(20)]
    assert sum(share > 0.005 for share in shares) >= 6
    assert np.dot(shares, gaps) < 0.01


def test_probabilities_are_the_surer_the_more_the_facts_say(calibrated):
    examined = made(7)
    examined.signals[1], examined.rows[1] = examined.signals[0], examined.rows[0]
    examined.facts[:2] = 0.0
    examined.facts[0, 0], examined.facts[1, 0] = -2.0, 2.0
    found = calibrated.probabilities(examined, calibrated.scores(examined))
    assert found[0].sum() == pytest.approx(1 / (1 + np.e), abs=0.06)
    assert found[1].sum() == pytest.approx(1 / (1 + np.exp(-3)), abs=0.06)


def test_there_are_no_probabilities_before_enough_outcomes(config):
    learning, examined, places = ranker(config, "linear"), made(1, n_queries=1_000), np.zeros(1_000, np.int64)
    while learning.n_outcomes < MIN_OUTCOMES:
        assert learning.probabilities(examined, learning.scores(examined)) is None
        teach(learning, examined, places)
    assert learning.n_outcomes == MIN_OUTCOMES
    assert learning.probabilities(examined, learning.scores(examined)) is not None


def test_lists_are_held_to_what_they_stated(calibrated):
    """Every fourth batch; the sums are those of its lists, and they are better than to state the mean share."""
    reports = []
    for number in range(250, 270):
        examined, places = drawn_stream(number)
        step = calibrated.lesson(examined, places, np.ones(len(places), np.float32))
        reports.append((examined, places, step.forecasts, calibrated.scores(examined)))
        calibrated.apply(step)
    held = [report for report in reports if report[2] is not None]
    assert len(held) == 5
    stated = [sum(part) for part in zip(*(found.stated for _, _, found, _ in held), strict=True)]
    happened = [sum(part) for part in zip(*(found.happened for _, _, found, _ in held), strict=True)]
    predicted = [sum(part) for part in zip(*(found.predicted for _, _, found, _ in held), strict=True)]
    assert sum(stated) == sum(int(np.isfinite(scores).sum()) for _, _, _, scores in held)
    assert sum(happened) == sum(int((places >= 0).sum()) for _, places, _, _ in held)
    assert sum(predicted) == pytest.approx(sum(happened), rel=0.15)
    share = sum(happened) / sum(stated)
    assert sum(found.squared_error for _, _, found, _ in held) / sum(stated) < share * (1 - share)


def test_nothing_is_held_against_a_ranker_that_states_nothing(config):
    learning, examined = ranker(config, "linear"), made(1)
    assert learning.lesson(examined, np.zeros(8, np.int64), np.ones(8, np.float32)).forecasts is None


def test_a_probability_on_a_bound_belongs_to_the_bin_below():
    bounds = np.array(FORECAST_BOUNDS, np.float32)
    found = forecasts(bounds, np.array([True] * len(bounds)))
    assert found.stated == found.happened == [1] * len(bounds)
    assert found.predicted == pytest.approx(bounds.tolist())
    assert found.squared_error == pytest.approx(((1 - bounds) ** 2).sum(), rel=1e-5)


def test_what_may_not_be_listed_has_no_chance(calibrated):
    examined = made(7)
    scores = calibrated.scores(examined)
    scores[0], scores[1, 2] = -np.inf, -np.inf
    found = calibrated.probabilities(examined, scores)
    assert not found[0].any()
    assert found[1, 2] == 0.0
    assert found[1].sum() > 0.0


@pytest.mark.parametrize("kind", LEARNED)
def test_save_load_continue_equals_never_stopping(config, kind):
    one, other = ranker(config, kind), Ranker(replace(config, ranking=kind, batch_size=8))
    for number in range(10):
        teach(one, *drawn_stream(number, 8))
    state = one.state()
    other.load_state(state)
    kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
    for number in range(10, 25):
        teach(one, *drawn_stream(number, 8))
        teach(other, *drawn_stream(number, 8))
    assert same(one.state(), other.state())
    assert all(tensor.equal(kept[name]) for name, tensor in state.tensors.items())
    np.testing.assert_array_equal(one.scores(made(1)), other.scores(made(1)))


@pytest.mark.parametrize("kind", LEARNED)
def test_a_copy_answers_alike_from_what_serving_is_told(config, kind):
    learning, copy = ranker(config, kind), Ranker(replace(config, ranking=kind))
    for number in range(100):
        teach(learning, *drawn_stream(number))
    copy.load_serving_state(learning.serving_state())
    examined = made(1)
    scores = learning.scores(examined)
    np.testing.assert_array_equal(copy.scores(examined), scores)
    np.testing.assert_array_equal(copy.probabilities(examined, scores), learning.probabilities(examined, scores))


def test_a_network_of_another_width_is_refused(config):
    state = ranker(config, ranking_hidden=8).state()
    for load in (Ranker.load_state, Ranker.load_serving_state):
        with pytest.raises(ValueError, match=r"has first of \[21, 8\], the settings say \[21, 4\]"):
            load(ranker(config, ranking_hidden=4), state)


def test_a_state_without_its_optimizer_is_refused(config):
    state = ranker(config).state()
    state.metadata["adam"] = None
    with pytest.raises(ValueError, match="lacks its optimizer"):
        ranker(config).load_state(state)

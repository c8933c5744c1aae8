"""What every encoder promises."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from online_model.cloze import with_holes
from online_model.config import EncoderName
from online_model.encoders.base import pack, pad
from online_model.encoders.build import build_encoder
from online_model.learners import build
from online_model.lessons import Lessons
from online_model.protocol import Request
from online_model.scoring import pool, score_catalogue

CPU = torch.device("cpu")
NAMES = get_args(EncoderName)
SEQUENCES = [[3], [1, 2, 3, 4, 5, 6], [7, 7], [2, 9, 4], [8, 1, 8, 1, 8]]


@pytest.fixture(params=NAMES)
def config(request, config):
    return replace(config, encoder=request.param, window=6)


@pytest.fixture
def table() -> Tensor:
    return torch.rand(10, 8, generator=torch.Generator().manual_seed(5)) - 0.5


@pytest.fixture
def encoder(config):
    return build_encoder(config, CPU, torch.Generator().manual_seed(1))


def encode(encoder, table: Tensor, sequences, holes=None) -> Tensor:
    packing = pack(sequences, holes)
    return encoder.encode(table[torch.from_numpy(packing.rows)], packing)


def test_one_state_or_several_a_sequence(encoder, table):
    encoded = encode(encoder, table, SEQUENCES)
    assert encoded.shape in {(5, 8), (5, 4, 8)}
    assert encoded.dtype == torch.float32
    assert encoded.isfinite().all()


def test_answers_come_from_the_states_that_lessons_improve(encoder, table):
    """Without gradients a GRU's gates are computed in another way. Seen red: with reset and update gate exchanged."""
    with torch.no_grad():
        for weight in encoder.weights().values():
            weight.mul_(8.0)  # gates that are nearly closed, too
        answered = encode(encoder, 8.0 * table, SEQUENCES)
    torch.testing.assert_close(answered, encode(encoder, 8.0 * table, SEQUENCES).detach(), atol=1e-5, rtol=1e-5)


def test_the_order_of_the_batch_and_its_longest_sequence_do_not_matter(encoder, table):
    together = encode(encoder, table, SEQUENCES)
    torch.testing.assert_close(encode(encoder, table, SEQUENCES[::-1]), together.flip(0))
    for sequence, encoded in zip(SEQUENCES, together, strict=True):
        torch.testing.assert_close(encode(encoder, table, [sequence])[0], encoded)


def test_the_order_of_items_matters(encoder, table):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # some weights are zero at birth, as those of distances are
        for weight in encoder.weights().values():
            weight.add_(torch.randn(weight.shape, generator=generator))
    one, other = encode(encoder, table, [[1, 2, 3], [2, 1, 3]])
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "convolution"])
def test_what_comes_later_does_not_change_a_causal_state(config, table, name):
    encoder = build_encoder(replace(config, encoder=name, skip=0.0), CPU, torch.Generator().manual_seed(1))
    packing = pack([SEQUENCES[1], [4]])
    states = encoder.states(*pad(table[torch.from_numpy(packing.rows)], packing))
    for length in range(1, 7):
        torch.testing.assert_close(states[0, length - 1], encode(encoder, table, [SEQUENCES[1][:length]])[0])


def test_a_seed_decides_the_weights_and_their_names_are_theirs(config, encoder):
    again = build_encoder(config, CPU, torch.Generator().manual_seed(1)).weights()
    other = build_encoder(config, CPU, torch.Generator().manual_seed(2)).weights()
    weights = encoder.weights()
    assert list(weights) == list(again)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    assert all("." not in name or name.isascii() for name in weights)


def test_weights_carried_over_by_name_make_an_equal(config, encoder, table):
    empty = build_encoder(config, CPU)
    with torch.no_grad():
        for name, weight in empty.weights().items():
            assert not weight.any()
            weight.copy_(encoder.weights()[name])
    assert torch.equal(encode(empty, table, SEQUENCES), encode(encoder, table, SEQUENCES))


def test_a_gradient_reaches_every_weight_and_every_item(encoder, table):
    inputs = table.requires_grad_()
    score = (encode(encoder, inputs, SEQUENCES) * torch.linspace(0.5, 1.5, 8)).square().sum()
    score.backward()
    for name, weight in encoder.weights().items():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
    assert inputs.grad is not None
    seen = [row for sequence in SEQUENCES for row in sequence[-4:]]
    assert inputs.grad[seen].any(1).all()


def test_it_learns_and_a_saved_one_goes_on_alike(config, batches, asking):
    learner = build("gru", replace(config, dense_learning_rate=0.03))
    for batch in batches(300):
        learner.learn(batch)
    hits = sum(str((item + 1) % 40) in learner.recommend([asking(str(item))], 5)[0].items for item in range(40))
    assert hits >= 30
    other = build("gru", learner.config)
    other.load_state(learner.state())
    for batch in batches(3, seed=4):
        assert other.learn(batch) == learner.learn(batch)
    requests = [Request(example.context) for example in batches(1, seed=5)[0]]
    assert other.recommend(requests, 5) == learner.recommend(requests, 5)


def test_a_masked_transformer_looks_at_both_sides_of_a_hole_but_not_into_it(config, table):
    encoder = build_encoder(replace(config, encoder="masked-transformer"), CPU, torch.Generator().manual_seed(1))
    (found,) = encode(encoder, table, [[1, 2, 3, 4]], [1])
    torch.testing.assert_close(encode(encoder, table, [[1, 9, 3, 4]], [1])[0], found)
    for other in ([5, 2, 3, 4], [1, 2, 3, 9]):
        assert not torch.allclose(encode(encoder, table, [other], [1])[0], found, atol=1e-4)
    torch.testing.assert_close(encode(encoder, table, [[1, 2, 3, 4], [5], [7] * 6], [1, 1, 3])[0], found)


def test_holes_make_lessons_of_their_own():
    lessons = Lessons([[1, 2], [3], [4, 5]], [6, 7, 8], [1.0, 0.5, 2.0], n_targets=2)
    assert with_holes(lessons, 0.0, torch.Generator()) == (lessons, [2, 1, 2])
    whole, holes = with_holes(lessons, 1.0, torch.Generator().manual_seed(1))
    assert whole.sequences == [[1, 2], [3], [1, 2, 6], [1, 2, 6], [3, 7], [4, 5]]
    assert whole.items == [6, 7, 1, 2, 3, 8]
    assert whole.weights == [1.0, 0.5, 1.0, 1.0, 0.5, 2.0]
    assert holes == [2, 1, 0, 1, 0, 2]
    assert whole.n_targets == 5


def test_a_fifth_of_the_items_is_hidden():
    lessons = Lessons([[1, 2, 3, 4]] * 1_000, [5] * 1_000, [1.0] * 1_000, n_targets=1_000)
    whole, _ = with_holes(lessons, 0.2, torch.Generator().manual_seed(1))
    assert 700 < whole.n_targets - 1_000 < 900


def test_an_item_weighs_those_vectors_more_that_suit_it():
    hidden = torch.tensor([[[2.0, 0.0], [0.0, -1.0]]])
    scores = score_catalogue(hidden, torch.eye(2), torch.tensor([0.5, 0.0]))
    weights = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(scores[0, 0], 2.0 * weights[0] + 0.5)
    torch.testing.assert_close(scores[0, 1], -torch.tensor([0.0, -1.0]).softmax(0)[1])
    torch.testing.assert_close(pool(torch.tensor([[3.0, 3.0]])), torch.tensor([3.0]))

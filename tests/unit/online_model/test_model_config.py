import json
from dataclasses import fields

import pytest

from online_model.config import ModelConfig


def test_it_survives_json():
    config = ModelConfig(hidden=32, device="cpu", birth=0.25)
    assert ModelConfig.from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("hidden", 1.5),
        ("hidden", True),
        ("max_items", 1),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("dense_learning_rate", "fast"),
        ("birth", 1.1),
        ("birth", -0.1),
        ("probation_share", 0.0),
        ("elu", -1.0),
        ("loss_norm", float("inf")),
        ("device", "tpu"),
        ("score_dtype", "float8"),
        ("whole_history", 1),
    ],
)
def test_a_value_out_of_range_is_refused_with_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, not ") as caught:
        ModelConfig(**{name: value})
    assert str(caught.value).endswith(repr(value))


def test_more_items_than_counts_can_name_are_refused_where_candidates_are_ranked():
    with pytest.raises(ValueError, match='max_items must be at most 16777216 where ranking is not "none"'):
        ModelConfig(max_items=2**24 + 1)
    ModelConfig(max_items=2**24 + 1, ranking="none")
    ModelConfig(max_items=2**24)


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="unknown model settings: width"):
        ModelConfig.from_mapping({"width": 3})


def test_every_setting_is_described():
    for field in fields(ModelConfig):
        assert f"    {field.name}: " in (ModelConfig.__doc__ or "")

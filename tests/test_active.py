"""Shapes by the parameters of a token: against brute force over all shapes, and what is refused."""

from __future__ import annotations

import pytest

from regrow.active import shape_for_active, shapes_for_active
from regrow.arch import catalog
from regrow.errors import InputError

MIXTURE = catalog()["Qwen3-30B-A3B"]


def by_hand(layers: int, hidden: int = 2048) -> int:
    """Parameters of a token of Qwen3-30B-A3B with these sizes, from its config: 8 of 128 experts of 768 neurons."""
    attention = hidden * 128 * (32 + 4 + 4) + 32 * 128 * hidden + 2 * 128
    return layers * (attention + 2 * hidden + 128 * hidden + 8 * 3 * hidden * 768) + 2 * 151_936 * hidden + hidden


def test_whole_blocks_come_as_near_as_they_can() -> None:
    nearest = min(range(1, 48), key=lambda layers: abs(by_hand(layers) - 2.5e9))
    found = shape_for_active(MIXTURE, "depth", 2.5e9)
    assert found.architecture == MIXTURE.with_shape(layers=nearest)
    assert found.architecture.active_params == by_hand(nearest)
    assert found.rate == 1 - found.architecture.params / MIXTURE.params
    with pytest.raises(InputError, match=r"100M active parameters.*nearest rates.*736M and 679M active parameters"):
        shape_for_active(MIXTURE, "depth", 1e8)
    with pytest.raises(InputError, match="nearest rates"):
        shapes_for_active(MIXTURE, "depth", 2.475e9, strict=True)


@pytest.mark.parametrize("active", [3e9, 2.5e9, 2.22e9, 1e9])
def test_hidden_channels_come_within_half_a_percent(active: float) -> None:
    shapes = shapes_for_active(MIXTURE, "width", active, 4)
    assert len(shapes) == len(set(shapes))
    for shape in shapes:
        assert shape.active_params == pytest.approx(active, abs=0.005 * MIXTURE.active_params)
        assert (shape.intermediate, shape.experts) == (768, 128)
    assert shapes[0].active_params == by_hand(48, shapes[0].hidden)


def test_experts_lower_a_token_by_their_rows_of_the_router_alone() -> None:
    least = MIXTURE.with_shape(experts=8).active_params
    assert MIXTURE.active_params - least == 48 * 2048 * 120
    found = shape_for_active(MIXTURE, "experts", MIXTURE.active_params - 48 * 2048 * 30)
    assert found.architecture.experts == 98
    with pytest.raises(InputError, match=r"2.5B .*it stays with 3.34B or more.*prune the depth or the width"):
        shape_for_active(MIXTURE, "experts", 2.5e9)


@pytest.mark.parametrize(
    ("model", "method", "active", "says"),
    [
        ("Llama-3.1-8B", "depth", 2e9, "the model has no experts: every token is computed with all of its parameters"),
        ("Qwen3-30B-A3B", "depth", 4e9, "4B parameters of a token asked of a model that has 3.35B"),
        ("Qwen3-30B-A3B", "2:4", 2e9, "given with 2:4; depth and width lower the parameters of a token"),
    ],
)
def test_what_cannot_be_is_one_line(model: str, method: str, active: float, says: str) -> None:
    with pytest.raises(InputError) as refused:
        shape_for_active(catalog()[model], method, active)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)

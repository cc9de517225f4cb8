import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.errors import InputError
from regrow.units import (
    check_context,
    check_level,
    check_loss,
    check_price,
    check_rate,
    format_count,
    format_duration,
    format_factor,
    parse_count,
    plural,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("8B", 8_000_000_000), ("350M", 350_000_000), ("1e9", 10**9), ("1.5k", 1500), ("300_000", 300_000), (42, 42)],
)
def test_sizes_as_people_write_them(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "0", "-5", "8X", "nan", "inf", "B", "1e400", "ten", "8 B B"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="not a positive number"):
        parse_count(text, what="--tokens")


@pytest.mark.parametrize("text", ["2.5", "1.2345k", "0.0025k", 2.5, "1234.5"])
def test_what_is_not_whole_is_refused_and_not_rounded(text):
    with pytest.raises(InputError, match="is not a whole number"):
        parse_count(text, what="--batch")


def test_a_product_of_floats_is_whole_to_rounding():
    assert parse_count(8e9 * 0.3) == 2_400_000_000
    assert parse_count("8.030261248B") == 8_030_261_248


def test_one_is_not_several():
    assert [plural(n, "run") for n in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]
    assert plural(1, "loss", "losses") == "1 loss"
    assert plural(3, "loss", "losses") == "3 losses"


@given(st.integers(1, 10**15))
def test_formatting_keeps_three_digits(value):
    assert parse_count(format_count(value)) == pytest.approx(value, rel=0.006, abs=0.5)


@pytest.mark.parametrize(
    ("value", "text"), [(1.003, "1.003"), (1.0006, "1.001"), (5.401, "5.4"), (21.27, "21.3"), (12_345.0, "12,300")]
)
def test_factors_never_look_like_one(value, text):
    assert format_factor(value) == text


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_level, 0.9, (0.0, 1.0, -1.0, math.nan)),
        (check_rate, 0.25, (0.0, 1.0, 1.2, math.nan)),
        (check_price, 0.0, (-1.0, math.inf, math.nan)),
        (check_context, 1, (0, -4)),
        (check_loss, 2.1, (0.0, -1.0, math.inf, math.nan)),
    ],
)
def test_an_option_is_checked_and_the_message_says_where(check, good, bad):
    assert check(good) == good
    for value in bad:
        with pytest.raises(InputError, match=r"^--here: .*; "):
            check(value, where="--here")


@pytest.mark.parametrize(("seconds", "says"), [(41.2, "41 s"), (700, "12 min"), (9000, "2.5 h"), (200_000, "2.3 days")])
def test_durations(seconds, says):
    assert format_duration(seconds) == says

"""What a user may ask for, and how a wrong ask is answered."""

import math
import subprocess
import sys

import pytest

from regrow.errors import InputError
from regrow.pruning.spec import PruneSpec


def test_defaults_per_method():
    assert PruneSpec(method="depth", rate=0.2).scorer == "block-influence"
    assert PruneSpec(method="width", rate=0.2).scorer == "activation"
    sparse = PruneSpec(method="2:4")
    assert (sparse.scorer, sparse.pattern, sparse.kind) == ("wanda", (2, 4), "N:M")
    assert PruneSpec(method="4:8", scorer="magnitude").pattern == (4, 8)
    assert not PruneSpec(method="4:8", scorer="magnitude").needs_calibration


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan, math.inf, None, "0.5", True])
@pytest.mark.parametrize("method", ["depth", "width"])
def test_a_rate_outside_0_and_1_is_refused(method, rate):
    with pytest.raises(InputError, match=r"^rate:") as error:
        PruneSpec(method=method, rate=rate)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "dept", "rate": 0.2}, "did you mean 'depth'"),
        ({"method": "", "rate": 0.2}, "unknown method"),
        ({"method": "depth", "rate": 0.2, "scorer": "block-influense"}, "did you mean 'block-influence'"),
        ({"method": "2:4", "scorer": "wandb"}, "did you mean 'wanda'"),
        ({"method": "depth", "rate": 0.2, "scorer": "wanda"}, "unknown scorer for depth"),
        ({"method": "2:4", "rate": 0.5}, "the pattern sets it"),
        ({"method": "4:2"}, "keeps 4 of every 2"),
        ({"method": "0:4"}, "keeps 0 of every 4"),
        ({"method": "4:4"}, "keeps 4 of every 4"),
        ({"method": "width", "rate": 0.2, "axes": ("hiden",)}, "did you mean 'hidden'"),
        ({"method": "width", "rate": 0.2, "axes": ()}, "no axes"),
        ({"method": "depth", "rate": 0.2, "axes": ("hidden",)}, "only width"),
        ({"method": "depth", "rate": 0.2, "calibration_blocks": 0}, "calibration_blocks"),
        ({"method": "depth", "rate": 0.2, "seed": -1}, "seed"),
    ],
)
def test_wrong_asks(asked, message):
    with pytest.raises(InputError, match=message):
        PruneSpec(**asked)


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(method="depth", rate=0.25, seed=3),
        PruneSpec(method="width", rate=0.25, axes=("kv_heads", "hidden")),
        PruneSpec(method="2:4", scorer="magnitude"),
    ],
)
def test_round_trip(spec):
    assert PruneSpec.from_dict(spec.to_dict()) == spec


def test_from_dict_suggests():
    with pytest.raises(InputError, match="did you mean 'rate'"):
        PruneSpec.from_dict({"method": "depth", "rat": 0.2})
    with pytest.raises(InputError, match="no method"):
        PruneSpec.from_dict({"rate": 0.2})


def test_spec_and_plan_are_light():
    code = (
        "import sys, regrow.pruning, regrow.pruning.spec, regrow.pruning.plan, regrow.shapes;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

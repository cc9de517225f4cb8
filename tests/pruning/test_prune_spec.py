"""What a user may ask for, and how a wrong ask is answered."""

import json
import math
import subprocess
import sys

import pytest

from regrow.errors import InputError
from regrow.pruning.spec import SEARCHED, PruneSpec
from regrow.shapes import parse_shape


def test_defaults_per_method():
    assert PruneSpec(method="depth", rate=0.2).scorer == "block-influence"
    assert PruneSpec(method="width", rate=0.2).scorer == "activation"
    sparse = PruneSpec(method="2:4")
    assert (sparse.scorer, sparse.pattern, sparse.kind) == ("sparsegpt", (2, 4), "N:M")
    assert PruneSpec(method="4:8", scorer="magnitude").pattern == (4, 8)
    assert not PruneSpec(method="4:8", scorer="magnitude").needs_calibration


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan, math.inf, None, "1.5", True])
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
        ({"method": "depth", "rate": 0.2, "params": 10}, "rate and params given together"),
        ({"method": "2:4", "params": 10}, "the pattern sets it"),
        ({"method": "depth", "params": 0}, "params"),
        ({"method": "depth", "shape": {"hidden": 3}}, "depth pruning sets layers"),
        ({"method": "width", "shape": {"heads": 3}}, "width pruning sets hidden, intermediate, kv_heads"),
        ({"method": "width", "shape": {"hidden": 1.5}}, "not a whole number"),
        ({"method": "width", "shape": {}}, "an empty shape"),
        ({"method": "width", "shape": "hidden"}, "is not a shape"),
        ({"method": "width", "shape": {"hidden": 3}, "axes": ("hidden",)}, "axes given with a shape"),
        ({"method": "width", "shape": {"hidden": 3}, "multiple_of": 4}, "multiple_of given with a shape"),
        ({"method": "depth", "rate": 0.2, "search": 3}, "search given with depth"),
        ({"method": "width", "rate": 0.2, "search": 0}, "search"),
        ({"method": "width", "rate": 0.2, "search": 2, "scorer": "random"}, "needs calibration text"),
        ({"method": "width", "rate": 0.2, "multiple_of": 0}, "multiple_of"),
        ({"method": "width", "rate": 0.2, "iterative": True}, "it serves depth"),
        ({"method": "depth", "rate": 0.2, "scorer": "angular", "iterative": True}, "it serves depth"),
        ({"method": "width", "rate": 0.2, "strict": True}, "only depth"),
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
        PruneSpec(method="depth", params=6_000_000_000, iterative=True, strict=True),
        PruneSpec(method="width", shape={"intermediate": 2048, "hidden": 768}),
        PruneSpec(method="width", rate=0.25, multiple_of=64, search=3),
    ],
)
def test_round_trip(spec):
    again = PruneSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)


def test_a_spec_of_the_first_version_is_written_as_it_was():
    # a study knows its runs by a hash of this
    spec = PruneSpec(method="width", rate=0.25, scorer="activation", search=1)
    written = {
        "method": "width",
        "rate": 0.25,
        "scorer": "activation",
        "axes": None,
        "calibration_blocks": 32,
        "calibration_length": 512,
        "seed": 0,
    }
    assert spec.to_dict() == written
    assert PruneSpec.from_dict(written) == spec  # there was no search then, so it asks for none


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ({"method": "width", "rate": 0.25}, SEARCHED),
        ({"method": "width", "params": 1000, "scorer": "least-squares"}, SEARCHED),
        ({"method": "width", "rate": 0.25, "axes": ("hidden", "kv_heads")}, SEARCHED),
        ({"method": "width", "rate": 0.25, "search": 2}, 2),
        ({"method": "width", "rate": 0.25, "search": 1}, 1),
        # nothing to choose from, or nothing to choose by
        ({"method": "width", "rate": 0.25, "axes": ("intermediate",)}, 1),
        ({"method": "width", "shape": {"hidden": 8}}, 1),
        ({"method": "width", "rate": 0.25, "scorer": "random"}, 1),
        ({"method": "depth", "rate": 0.25}, 1),
        ({"method": "2:4"}, 1),
    ],
)
def test_shapes_are_searched_where_there_are_several(asked, tried):
    spec = PruneSpec(**asked)
    assert spec.shapes_tried == tried
    assert PruneSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_shapes_as_people_write_them():
    assert parse_shape("layers=24") == {"layers": 24}
    assert parse_shape("hidden=1k, intermediate=2048") == {"hidden": 1000, "intermediate": 2048}
    for text in ("24", "layers", "=3", "layers=1,layers=2", ""):
        with pytest.raises(InputError, match="is not a shape"):
            parse_shape(text)
    with pytest.raises(InputError, match="shape, layers"):
        parse_shape("layers=many")


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

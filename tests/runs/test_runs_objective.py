"""An objective is one value: its text is read back as it was written, and a study's names give the teacher."""

import pytest

from regrow.errors import InputError
from regrow.runs.objective import Objective, parse_teacher
from regrow.training.spec import TrainSpec


@pytest.mark.parametrize("text", ["cross-entropy", "distillation:T=2,mix=0.5", "distillation", "dpo:beta=0.1"])
def test_the_text_of_a_record_is_read_back_as_it_was_written(text):
    assert str(Objective.parse(text)) == text


def test_a_recipe_names_what_it_minimises():
    recipe = TrainSpec(tokens=1000, distill_temperature=2.0, distill_mix=0.5)
    assert str(recipe.objective(distils=False)) == "cross-entropy"
    assert str(recipe.objective(distils=True)) == "distillation:T=2,mix=0.5"
    assert recipe.objective(distils=True) == Objective.parse("distillation:T=2,mix=0.5")


def test_a_record_without_an_objective_was_trained_on_cross_entropy():
    assert Objective.parse(None) == Objective()
    assert not Objective.parse(None).distils
    assert Objective.parse("distillation:T=1,mix=1").distils


def test_objectives_name_their_teacher():
    assert parse_teacher("cross-entropy") is None
    assert parse_teacher("distillation") == ""
    assert parse_teacher("distillation:some/model") == "some/model"
    for wrong in ("distilation", "distillation:", "cross-entropy:x"):
        with pytest.raises(InputError):
            parse_teacher(wrong)

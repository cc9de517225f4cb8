"""Results of lm-eval are read in the layouts that its releases write."""

import pytest

from regrow.errors import InputError
from regrow.runs.harness_results import read_result, read_results, split_metric

#: what 0.4.13 writes, shortened
NEW = {
    "results": {
        "arc": {"alias": "arc", "name": "arc", "sample_len": 500, "acc,none": 0.4, "acc_stderr,none": 0.0219,
                "acc_norm,none": 0.44, "acc_norm_stderr,none": 0.0222},
        "gsm8k": {"alias": "gsm8k", "exact_match,flexible-extract": 0.31, "exact_match_stderr,flexible-extract": 0.01,
                  "exact_match,strict-match": 0.3, "exact_match_stderr,strict-match": "N/A"},
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 11.2, "bits_per_byte,none": 0.7},
        "loose": {"alias": "loose", "name": "loose"},
    },
    "groups": {"mmlu": {"alias": "mmlu", "acc,none": 0.5, "acc_stderr,none": 0.03}},
    "group_subtasks": {"mmlu": ["a", "b"], "loose": ["arc"]},
    "versions": {"arc": 1.0, "gsm8k": 3, "mmlu": "N/A"},
    "n-shot": {"arc": 0, "gsm8k": 5, "mmlu": 5},
    "n-samples": {"arc": {"original": 1172, "effective": 500}, "mmlu": {"original": 2000, "effective": 2000}},
    "higher_is_better": {"arc": {"acc": True, "acc_norm": True}, "wikitext": {"bits_per_byte": False}},
}  # fmt: skip


def test_each_task_has_the_metric_that_is_usual_for_it():
    found = read_results(NEW)
    assert list(found) == ["arc", "gsm8k", "mmlu"]
    arc = found["arc"]
    assert (arc.score.value, arc.score.stderr, arc.score.questions) == (0.44, 0.0222, 500)
    assert (arc.metric, arc.version, arc.shots) == ("acc_norm", "1.0", 0)
    assert found["gsm8k"].metric == "exact_match,strict-match"
    assert found["gsm8k"].score.stderr is None
    assert found["mmlu"].version is None


def test_a_group_less_precise_than_its_questions_keeps_its_error_alone():
    score = read_results(NEW)["mmlu"].score
    assert (score.stderr, score.questions) == (0.03, None)  # 2,000 questions would give 0.011


def test_a_metric_can_be_chosen():
    assert read_result(NEW, "arc", metric="acc").score.value == 0.4
    assert read_result(NEW, "gsm8k", metric="exact_match,flexible-extract").score.value == 0.31
    with pytest.raises(InputError, match="arc has no score called 'f1'; choose from: acc, acc_norm"):
        read_result(NEW, "arc", metric="f1")
    assert split_metric("arc:acc") == ("arc", "acc")
    assert split_metric("arc") == ("arc", None)


def test_the_layout_before_filters_is_read():
    old = {"results": {"piqa": {"acc": 0.7, "acc_stderr": 0.01, "acc_norm": 0.71, "acc_norm_stderr": 0.01}},
           "versions": {"piqa": 0}}  # fmt: skip
    result = read_results(old)["piqa"]
    assert (result.score.value, result.score.stderr, result.version, result.shots) == (0.71, 0.01, "0", None)


def test_a_contradiction_between_error_and_questions_is_said():
    wrong = {"results": {"a": {"acc,none": 0.5, "acc_stderr,none": 0.2}}, "n-samples": {"a": {"effective": 1000}}}
    with pytest.raises(InputError, match=r"0\.2 and 1000 questions contradict"):
        read_results(wrong)


@pytest.mark.parametrize("content", [{}, {"results": [1]}, {"results": {"a": 1}}])
def test_what_lm_eval_does_not_write_is_refused(content):
    with pytest.raises(InputError, match="not results of lm-eval"):
        read_results(content)


def test_results_without_a_score_are_refused():
    with pytest.raises(InputError, match=r"no task here has a score.*found: wikitext"):
        read_results({"results": {"wikitext": NEW["results"]["wikitext"]}, "higher_is_better": NEW["higher_is_better"]})

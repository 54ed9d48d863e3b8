"""Test metrics against scikit-learn, and standard errors against the bootstrap and by coverage.

Shapes: N examples, C classes, I items.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from scaling.metrics import classes, items
from scaling.metrics import tokens as token_metrics
from scaling.utils.errors import UserError
from tests.common import run_python


def drawn(N, C, seed=0, strength=1.5, tied=False):
    """Return (logits, labels) of unequal classes; the logits depend on the labels."""
    rng = np.random.default_rng(seed)
    y_N = rng.choice(C, N, p=np.arange(1, C + 1) / (C * (C + 1) / 2))
    logits_NC = rng.normal(0, 1, (N, C)) + strength * np.eye(C)[y_N]
    return (np.round(logits_NC) if tied else logits_NC).astype(np.float32), y_N


def values(metrics):
    return {name: metric.value for name, metric in metrics.items()}


@pytest.mark.parametrize(("C", "tied"), [(2, False), (2, True), (5, False), (5, True)])
def test_classification_is_scikit_learns(C, tied):
    logits_NC, y_N = drawn(300, C, tied=tied)
    predicted_N = logits_NC.argmax(axis=1)
    metrics = values(classes.classification(logits_NC, y_N))
    scores = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    expected = {
        f"{name}_{average}": score(y_N, predicted_N, average=average)
        for name, score in scores.items()
        for average in ("macro", "micro")
    }
    p_NC = special.softmax(np.float64(logits_NC), axis=1)
    if C == 2:
        expected["auc"] = sk.roc_auc_score(y_N, logits_NC[:, 1] - logits_NC[:, 0])
    elif not tied:  # scikit-learn's softmax breaks ties of our logits by rounding
        expected["auc"] = sk.roc_auc_score(y_N, p_NC, multi_class="ovr", average="macro")
    expected["accuracy"] = sk.accuracy_score(y_N, predicted_N)
    assert {k: metrics[k] for k in expected} == pytest.approx(expected, abs=1e-6)
    confusion_CC = classes.confusion(predicted_N, y_N, C)
    np.testing.assert_array_equal(confusion_CC, sk.confusion_matrix(y_N, predicted_N))
    if C == 5 and not tied:
        top = values(classes.classification(logits_NC, y_N, ks=(2, 3)))
        for k in (2, 3):
            assert top[f"top{k}_accuracy"] == pytest.approx(sk.top_k_accuracy_score(y_N, p_NC, k=k))


def test_a_class_without_examples_is_excluded_and_counted():
    logits_NC, y_N = drawn(200, 4)
    y_N[y_N == 1] = 2  # predicted, but never a label
    logits_NC[:, 0] = -9  # a label, but never predicted
    predicted_N = logits_NC.argmax(axis=1)
    metrics = values(classes.classification(logits_NC, y_N))
    assert metrics["empty_classes"] == 1 and set(predicted_N) == {1, 2, 3} and set(y_N) == {0, 2, 3}
    options = dict(labels=[0, 2, 3], average="macro", zero_division=0)
    assert metrics["precision_macro"] == pytest.approx(
        sk.precision_score(y_N, predicted_N, **options)
    )
    assert metrics["recall_macro"] == pytest.approx(sk.recall_score(y_N, predicted_N, **options))
    assert metrics["f1_macro"] == pytest.approx(sk.f1_score(y_N, predicted_N, **options))


def test_ranking_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores_NI, target_N = rng.normal(size=(80, 30)), rng.integers(0, 30, 80)
    relevant_NI = np.eye(30)[target_N]
    metrics = values(items.ranking(items.ranks(scores_NI, target_N), ks=(1, 5, 10), items=30))
    for k in (1, 5, 10):
        assert metrics[f"ndcg@{k}"] == pytest.approx(sk.ndcg_score(relevant_NI, scores_NI, k=k))
        hits = sk.top_k_accuracy_score(target_N, scores_NI, k=k, labels=np.arange(30))
        assert metrics[f"hit@{k}"] == pytest.approx(hits)
    expected = sk.label_ranking_average_precision_score(relevant_NI, scores_NI)
    assert metrics["mrr"] == pytest.approx(expected)


def test_ties_count_against_the_target():
    assert items.ranks([[1.0, 2.0, 2.0, 0.0]] * 3, [1, 0, 3]).tolist() == [2, 3, 4]
    constant = classes.classification(np.zeros((10, 3)), np.arange(10) % 3, ks=(2,))
    assert constant["top2_accuracy"].value == 0 and constant["auc"].value == 0.5


def test_language_is_ratios_of_sums():
    loss_N, tokens_N, bytes_N = np.array([8.0, 3.0, 10.0]), [4, 2, 4], [10, 5, 20]
    metrics = token_metrics.language(loss_N, tokens_N, bytes_N, correct_N=[1, 2, 2])
    assert metrics["loss"].value == pytest.approx(2.1)
    assert metrics["perplexity"].value == pytest.approx(np.exp(2.1))
    assert metrics["bits_per_byte"].value == pytest.approx(21 / 35 / np.log(2))
    assert metrics["accuracy"].value == pytest.approx(0.5)
    assert metrics["perplexity"].se == pytest.approx(np.exp(2.1) * metrics["loss"].se)
    equal = token_metrics.language(loss_N, [4, 4, 4])[
        "loss"
    ]  # sequences of equal length: a plain mean
    assert equal.se == pytest.approx((loss_N / 4).std(ddof=1) / np.sqrt(3)) and equal.n == 3


def test_a_mean_has_the_usual_error_and_an_area_that_of_delong():
    logits_NC, y_N = drawn(120, 2)
    metrics = classes.classification(logits_NC, y_N)
    hit_N = logits_NC.argmax(axis=1) == y_N
    assert metrics["accuracy"].se == pytest.approx(hit_N.std(ddof=1) / np.sqrt(120))
    score_N = np.float64(logits_NC[:, 1]) - logits_NC[:, 0]
    above = score_N[y_N == 1][:, None] > score_N[y_N == 0][None]
    variance = above.mean(1).var(ddof=1) / len(above) + above.mean(0).var(ddof=1) / above.shape[1]
    assert metrics["auc"].se == pytest.approx(np.sqrt(variance), rel=0.01)


def of_all(family, index):
    """Return every metric of the rows `index` of a family's readings, with their groups."""
    function, readings, groups = family
    return function(*(r[index] for r in readings), groups[index])


def families():
    """Return name -> (metrics of readings and groups, readings, groups).

    Groups have 1 to 8 correlated examples.
    """
    rng = np.random.default_rng(3)
    group_N = np.repeat(np.arange(150), rng.integers(1, 9, 150))
    N = len(group_N)
    easy_N = rng.normal(1.0, 1.0, 150)[group_N]
    y_N = (rng.integers(0, 4, 150)[group_N] + (rng.uniform(size=N) < 0.5)) % 4
    logits_NC = (rng.normal(size=(N, 4)) + easy_N[:, None] * np.eye(4)[y_N]).astype(np.float32)
    two_NC = logits_NC[:, :2] + 0.5 * np.eye(2)[y_N % 2]
    tokens_N = rng.integers(20, 40, N)
    loss_N = tokens_N * (3 + 0.3 * easy_N)
    correct_N = rng.binomial(tokens_N, special.expit(-easy_N))
    return {
        "four classes": (classes.classification, (logits_NC, y_N), group_N),
        "two classes": (classes.classification, (two_NC, y_N % 2), group_N),
        "ranking": (
            lambda r, g: items.ranking(r, groups_N=g), (items.ranks(logits_NC, y_N),), group_N
        ),
        "language": (
            lambda *r: token_metrics.language(*r[:4], groups_N=r[4]),
            (loss_N, tokens_N, 4 * tokens_N + rng.integers(0, 9, N), correct_N),
            group_N,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", families())
def test_standard_errors_are_the_bootstraps(name, grouped):
    function, readings, groups = families()[name]
    groups = groups if grouped else np.arange(len(groups))
    family, rng = (function, readings, groups), np.random.default_rng(0)
    rows = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    metrics = of_all(family, np.arange(len(groups)))

    def resample() -> np.ndarray:
        return np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])

    draws = [values(of_all(family, resample())) for _ in range(400)]
    for metric, estimate in metrics.items():
        assert estimate.n == len(rows)
        spread = np.std([draw[metric] for draw in draws], ddof=1)
        assert estimate.se == pytest.approx(spread, rel=0.15), metric


def test_intervals_cover():
    """Compare 95% intervals of test sets of 250 examples, in groups of 5, with the population."""
    C, repeats = 3, 400

    def sample(groups, seed):
        rng = np.random.default_rng(seed)
        group_N = np.repeat(np.arange(groups), 5)
        y_N = rng.choice(C, 5 * groups, p=(0.5, 0.3, 0.2))
        strength_N = 1.2 + rng.normal(0, 0.8, groups)[group_N]
        return rng.normal(size=(len(y_N), C)) + strength_N[:, None] * np.eye(C)[y_N], y_N, group_N

    truth = values(classes.classification(*sample(40_000, 10**6)))
    names = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc")
    covered = dict.fromkeys(names, 0)
    for seed in range(repeats):
        metrics = classes.classification(*sample(50, seed))
        for name in names:
            covered[name] += abs(metrics[name].value - truth[name]) < 1.96 * metrics[name].se
    for name, count in covered.items():
        assert 0.91 < count / repeats < 0.98, (name, count)


def test_groups_may_have_names_and_one_group_has_no_error():
    logits_NC, y_N = drawn(60, 3)
    number = np.arange(60) // 6
    named = classes.classification(logits_NC, y_N, [f"speaker {i}" for i in number])
    numbered = classes.classification(logits_NC, y_N, number)
    assert named.keys() == numbered.keys()
    for key, metric in numbered.items():  # relative to each figure: float64 sums of 60 examples
        expected = pytest.approx((metric.value, metric.se), rel=1e-12)
        assert (named[key].value, named[key].se) == expected and named[key].n == metric.n
    one = classes.classification(logits_NC, y_N, ["anna"] * 60)["accuracy"]
    assert one.n == 1 and np.isnan(one.se) and "one draw, no standard error" in str(one)


L, Y = drawn(20, 3)
classify, language = classes.classification, token_metrics.language


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classify(L, np.r_[Y[:19], 3]), "label 3 of example 19 is not in 0 to 2"),
        (lambda: classify(L, np.r_[-1, Y[1:]]), "label -1 of example 0 is not in 0 to 2"),
        (lambda: classify(L, Y, ks=(3,)), "top 3 of 3 classes; choose k from 1 to 2"),
        (lambda: classify(np.where(Y[:, None] == Y[4], np.nan, L), Y),
         "logits of example .* not finite"),
        (lambda: classify(L, 0 * Y + 2), "all 20 held-out examples are of class 2"),
        (lambda: classify(L, Y[:5]), r"logits of shape \(20, 3\) and labels of shape \(5,\)"),
        (lambda: classify(L[:0], Y[:0]), "no held-out examples"),
        (lambda: classify(L, Y, [1, 2]), "2 groups for 20 examples"),
        (lambda: items.ranks([[0.0, np.nan]], [0]), "a score of example 0 is not a number"),
        (lambda: items.ranks([[0.0, 1.0]], [2]), "item 2 of example 0 is not in 0 to 1"),
        (lambda: items.ranking([1, 0]), "rank 0 of example 1 is not a whole number from 1$"),
        (lambda: items.ranking([1, 9], items=8),
         "rank 9 of example 1 is not a whole number from 1 to 8"),
        (lambda: items.ranking([1, 2], items=8), "the first 10 of 8 items"),
        (lambda: language([1.0, np.inf], [2, 2]), "losses of example 1 is inf, not finite"),
        (lambda: language([1.0], [0]), "tokens of 1 sequences sum to 0"),
        (lambda: language([1.0, 2.0], [1, 2, 3]),
         r"tokens has shape \(3,\), of 2 examples"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_readings_gathered_in_order_give_the_same_bits_without_jax():
    """Compute from concatenated parts in a process without jax."""
    code = (
        "import sys, json, numpy as np\n"
        "from scaling.metrics import classes\n"
        "rng = np.random.default_rng(5)\n"
        "l, y = rng.normal(size=(999, 7)).astype(np.float32), rng.integers(0, 7, 999)\n"
        "parts = [(l[i : i + 100], y[i : i + 100]) for i in range(0, 999, 100)]\n"
        "metrics = classes.classification(*(np.concatenate(x) for x in zip(*parts)), ks=(2,))\n"
        "assert 'jax' not in sys.modules\n"
        "print(json.dumps({k: (m.value.hex(), m.se.hex()) for k, m in metrics.items()}))\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(5)
    whole = classes.classification(
        rng.normal(size=(999, 7)).astype(np.float32), rng.integers(0, 7, 999), ks=(2,)
    )
    assert {k: [m.value.hex(), m.se.hex()] for k, m in whole.items()} == json.loads(done.stdout)


def test_the_perplexity_of_a_huge_loss_is_infinite():
    perplexity = token_metrics.language([2000.0, 2001.0], [2, 2])["perplexity"]
    assert (perplexity.value, perplexity.n) == (math.inf, 2)

"""Compute classification metrics: accuracy, precision, recall, F1, confusion matrix, AUC.

Averages over classes ("macro") use only classes with examples, since others have no recall. The
precision of a class with examples that is never predicted is 0 (scikit-learn's zero_division=0).
Standard errors are conditional on which classes have examples, and are too small if a class has
only a few.

Shapes: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.metrics.auc import area, one_against_rest
from scaling.metrics.items import ranks
from scaling.metrics.metric import Draws, Metric, draws
from scaling.utils.errors import UserError


def classification(logits_NC, y_N, groups_N=None, *, ks: Sequence[int] = ()) -> dict[str, Metric]:
    """Return accuracy, top<k>_accuracy, {precision, recall, f1}_{macro, micro}, auc, empty_classes.

    The prediction is the first class of equal logits. A label is among the top k if fewer than k
    other classes have at least its logit. "auc" is that of class 1 of two, else the mean sample
    classes of each against the rest (softmax probabilities). "empty_classes" counts classes without
    examples. With one label per example, all micro averages equal the accuracy.

    Raises UserError if logits are not finite, a label is out of range, a k is at least C, or all
    labels are one class.
    """
    logits_NC, y_N = _check(logits_NC, y_N)
    N, C = logits_NC.shape
    sample = draws(groups_N, N)
    predicted_N = logits_NC.argmax(axis=1)
    metrics = {"accuracy": sample.mean(predicted_N == y_N)}
    if ks:
        rank_N = ranks(logits_NC, y_N)
    for k in ks:
        if not 1 <= k < C:
            raise UserError(f"metrics: top {k} of {C} classes; choose k from 1 to {C - 1}")
        metrics[f"top{k}_accuracy"] = sample.mean(rank_N <= k)
    metrics |= _averages(confusion(predicted_N, y_N, C), predicted_N, y_N, sample)
    metrics |= {f"{name}_micro": metrics["accuracy"] for name in ("precision", "recall", "f1")}
    if C == 2:
        score_N = logits_NC[:, 1].astype(np.float64) - logits_NC[:, 0]
        metrics["auc"] = sample.metric(*area(score_N, y_N == 1))
    else:
        metrics["auc"] = sample.metric(*one_against_rest(logits_NC, y_N))
    metrics["empty_classes"] = Metric(float(C - len(np.unique(y_N))), 0.0, sample.count)  # exact
    return metrics


def confusion(predicted_N, y_N, classes: int) -> np.ndarray:
    """Return the number of examples by label (rows) and prediction (columns), `[C, C]`."""
    flat_N = np.asarray(y_N, np.int64) * classes + np.asarray(predicted_N, np.int64)
    return np.bincount(flat_N, minlength=classes * classes).reshape(classes, classes)


def _averages(confusion_CC, predicted_N, y_N, sample: Draws) -> dict[str, Metric]:
    """Return means over the classes with examples.

    An example influences two classes, that of its label and that of its prediction.
    """
    N, hit_N = len(y_N), predicted_N == y_N
    right_C = confusion_CC.diagonal()
    true_C, predicted_C = confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)
    has_C = true_C > 0
    K = int(has_C.sum())
    precision_C = np.where(has_C, right_C / np.maximum(predicted_C, 1), 0.0)
    recall_C = right_C / np.maximum(true_C, 1)
    f1_C = 2 * right_C / np.maximum(predicted_C + true_C, 1)
    both_C = predicted_C + true_C
    precision_N = np.where(has_C[predicted_N], hit_N - precision_C[predicted_N], 0.0)
    f1_N = (2 * hit_N - f1_C[y_N]) / both_C[y_N] - (f1_C / np.maximum(both_C, 1))[predicted_N]
    influences = {
        "precision": (precision_C, precision_N / predicted_C[predicted_N]),
        "recall": (recall_C, (hit_N - recall_C[y_N]) / true_C[y_N]),
        "f1": (f1_C, f1_N),
    }
    return {
        f"{name}_macro": sample.metric(value_C[has_C].mean(), influence_N * (N / K))
        for name, (value_C, influence_N) in influences.items()
    }


def _check(logits_NC, y_N) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, labels as integers. Raises UserError at the first bad value."""
    logits_NC, y_N = np.asarray(logits_NC), np.asarray(y_N)
    if logits_NC.ndim != 2 or logits_NC.shape[1] < 2 or y_N.shape != logits_NC.shape[:1]:
        raise UserError(
            f"metrics: logits of shape {logits_NC.shape} and labels of shape {y_N.shape}; give "
            "[examples, 2 or more classes] and [examples]"
        )
    N, C = logits_NC.shape
    bad = np.flatnonzero(~np.isfinite(logits_NC).all(axis=1))
    if len(bad):
        raise UserError(f"metrics: the logits of example {bad[0]} are not finite")
    bad = np.flatnonzero((y_N < 0) | (y_N >= C) | (y_N != np.floor(y_N)))
    if len(bad):
        raise UserError(f"metrics: label {y_N[bad[0]]} of example {bad[0]} is not in 0 to {C - 1}")
    if N and (y_N == y_N[0]).all():
        raise UserError(
            f"metrics: all {N} held-out examples are of class {y_N[0]}, so the area under the "
            "curve is undefined; hold out more, or other, examples"
        )
    return logits_NC, y_N.astype(np.int64)

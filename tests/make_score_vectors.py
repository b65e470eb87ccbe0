#!/usr/bin/env python3
"""Writes score_vectors.h, what test_metrics.c and test_calibration.c hold osr.h against: metrics
and calibrated scores by numpy, in double precision, from their definitions.

    python3 make_score_vectors.py > score_vectors.h

Nothing here follows the way of osr.h: pairs instead of ranks, a search for the largest likelihood
instead of its equation, inverses instead of factors."""

import math

import numpy as np


def fill(seed, *shape):
    """Values in -1..1, exact in float32; test_calibration.c has the same function."""
    values = []
    for i in range(math.prod(shape)):
        h = ((i + 1) * 2654435761 + seed * 40503) & 0xFFFFFFFF
        h ^= h >> 15
        h = (h * 2246822519) & 0xFFFFFFFF
        h ^= h >> 13
        values.append(((h >> 8) - 8388608) / 8388608)
    return np.array(values).reshape(shape)


def emit(kind, name, values):
    texts = [repr(v) for v in np.asarray(values).reshape(-1).tolist()]
    print(f"static const {kind} {name}[{len(texts)}] = {{")
    line = "   "
    for t in texts:
        if len(line) + len(t) + 2 > 100:
            print(line)
            line = "   "
        line += f" {t},"
    print(line.rstrip(",") + "};")


# ---- metrics: larger score = more unknown ----


def average_precision(positive, negative):
    ap = recall = 0.0
    for t in np.unique(np.concatenate([positive, negative]))[::-1]:
        tp, fp = np.sum(positive >= t), np.sum(negative >= t)
        ap += (tp / len(positive) - recall) * tp / (tp + fp)
        recall = tp / len(positive)
    return ap


def fpr95(positive, negative):
    for t in np.unique(np.concatenate([positive, negative]))[::-1]:
        if np.sum(positive >= t) * 20 >= 19 * len(positive):
            return np.mean(negative >= t)
    raise ValueError


def metrics(known, unknown, correct):
    wins = (known[:, None] < unknown[None, :]) + 0.5 * (known[:, None] == unknown[None, :])
    error = math.nan
    if len(known) > 1 and len(unknown) > 1:  # DeLong: structural components
        error = math.sqrt(np.var(wins.mean(axis=1), ddof=1) / len(known)
                          + np.var(wins.mean(axis=0), ddof=1) / len(unknown))
    cuts = np.concatenate([[-math.inf], known, unknown])
    dtacc = max(0.5 * (np.mean(unknown > t) + np.mean(known <= t)) for t in cuts)
    return [np.mean(correct), wins.mean(), error, average_precision(unknown, known),
            average_precision(-known, -unknown), fpr95(-known, -unknown), fpr95(unknown, known),
            np.mean(correct[:, None] * wins), dtacc]


def metric_cases():
    # known and unknown images, steps of the scores (few: ties; 0: all equal)
    sizes = [(25, 17, 4), (40, 40, 2), (1, 9, 3), (9, 1, 3), (1, 1, 1), (13, 20, 0),
             (33, 21, 1 << 20), (20, 20, 8)]
    known, unknown, correct, expected, shape = [], [], [], [], []
    for seed, (nk, nu, steps) in enumerate(sizes):
        k, u = fill(100 + seed, nk), fill(200 + seed, nu) + 0.3
        k, u = ((np.floor(v * steps) / steps if steps else v * 0) for v in (k, u))
        c = (fill(300 + seed, nk) > -0.6).astype(float)
        known += k.tolist()
        unknown += u.tolist()
        correct += c.astype(int).tolist()
        expected += metrics(k, u, c)
        shape += [nk, nu]
    emit("int", "metric_sizes", shape)
    emit("double", "metric_known", known)
    emit("double", "metric_unknown", unknown)
    emit("unsigned char", "metric_correct", correct)
    texts = ["NAN" if math.isnan(v) else repr(float(v)) for v in expected]
    print("/* accuracy, AUROC, its error, AP unknown, AP known, FPR95 known and unknown positive,"
          "\n * OSCR, DTACC of each case */")
    print(f"static const double metric_expected[{len(texts)}] = {{")
    for i in range(0, len(texts), 3):
        print("    " + ", ".join(texts[i:i + 3]) + ("," if i + 3 < len(texts) else "};"))


# ---- Weibull and the calibrated scores ----


def weibull(tail, translate):
    """Shape and scale of tail + translate - min by a search for the largest likelihood."""
    x = np.sort(tail) - tail.min()
    t = np.log1p(x / translate)  # ln(x / translate)

    def likelihood(log_shape):
        c = math.exp(log_shape)
        log_mean = math.log(np.mean(np.exp(c * (t - t.max())))) + c * t.max()
        return len(t) * log_shape + (c - 1) * t.sum() - len(t) * log_mean - len(t)

    low, high, golden = -5.0, 20.0, (math.sqrt(5) - 1) / 2
    for _ in range(200):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if likelihood(a) > likelihood(b) else (a, high)
    c = math.exp(0.5 * (low + high))
    scale = translate * np.mean(np.exp(c * (t - t.max()))) ** (1 / c) * math.exp(t.max())
    return tail.min(), scale, c


K, D, N, QUERIES = 4, 9, 120, 12


def features(seed, n):
    """The normalised images of a model with mean 0.5 and std 0.25 over pixels (f + 1) / 2, f with
    variances that differ and columns that go together."""
    f = fill(seed, n, D) / 2.0 ** (np.arange(D) % 4)
    f[:, 5:] = f[:, 1:5] + f[:, 5:] / 4
    return ((f + 1) / 2 - 0.5) / 0.25


def logits(x):
    return 2 * x @ fill(2, K, D).T + np.array([0.0, 0.5, -0.5, -100.0])


def labels_of(z):
    """The largest logit, but for every fifth image; never class 3."""
    best = z.argmax(axis=1)
    return np.where(np.arange(len(z)) % 5 == 4, (best + 1) % 3, best)


def openmax(z, means, fits):
    alpha = min(10, K)
    order = np.argsort(-z)
    v = z.copy()
    for i, k in enumerate(order[:alpha]):
        shift, scale, shape = fits[k]
        x = max(0.0, np.linalg.norm(z - means[k]) + 1 - shift)
        w = 1 - math.exp(-((x / scale) ** shape)) if scale > 0 else 0.0
        v[k] = z[k] * (1 - w * (alpha - i) / alpha)
    u = np.sum(z - v)
    return u - np.logaddexp.reduce(v)


def calibration():
    x = features(1, N)
    z = logits(x)
    y = labels_of(z)
    right = z.argmax(axis=1) == y
    means, fits = np.zeros((K, K)), np.zeros((K, 3))
    for k in range(3):
        own = z[right & (y == k)]
        means[k] = own.mean(axis=0)
        distances = np.sort(np.linalg.norm(own - means[k], axis=1))[-20:]
        fits[k] = weibull(distances, 1.0)
    centres = np.stack([x[y == k].mean(axis=0) for k in range(3)])
    centred = x - centres[y]
    cov = centred.T @ centred / N
    tr, tr2 = np.trace(cov), np.trace(cov @ cov)
    rho = min(1.0, ((1 - 2 / D) * tr2 + tr * tr) / ((N + 1 - 2 / D) * (tr2 - tr * tr / D)))
    inverse = np.linalg.inv((1 - rho) * cov + rho * tr / D * np.eye(D))
    q = features(3, QUERIES) * np.linspace(0.3, 2.0, QUERIES)[:, None]
    differences = q[:, None, :] - centres[None]
    mahalanobis = np.sqrt(np.einsum("nki,ij,nkj->nk", differences, inverse, differences))
    emit("int", "calibration_labels", y)
    emit("double", "calibration_fits", fits)
    emit("double", "expected_openmax", [openmax(v, means, fits) for v in logits(q)])
    emit("double", "expected_ncm", np.linalg.norm(differences, axis=2).min(axis=1))
    emit("double", "expected_mahalanobis", mahalanobis.min(axis=1))
    print(f"/* rho = {rho:.6f} */")


print("/* score_vectors.h - made by make_score_vectors.py (numpy " + np.__version__ + ") */")
print("#ifndef SCORE_VECTORS_H\n#define SCORE_VECTORS_H\n\n#include <math.h>\n")
print("#ifndef WITHOUT_METRICS")
metric_cases()
print("#endif\n#ifndef WITHOUT_CALIBRATION")
calibration()
print("#endif\n\n#endif")

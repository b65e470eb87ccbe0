#!/usr/bin/env python3
"""Writes vectors.h, the values that test_vectors.c holds osr.h against: outputs and gradients by
PyTorch, in double precision.

    python3 make_vectors.py > vectors.h

Inputs are not stored: fill() here and in test_vectors.c give the same float32 numbers. Images are
[N, H, W, C] in the file and [N, C, H, W] in PyTorch. Losses that PyTorch lacks are written out
from their papers' formulas."""

import math
import sys

import torch
import torch.nn.functional as F


def fill(seed, *shape, scale=1.0):
    """Values in -1..1 times scale, exact in float32 where scale is a power of two."""
    values = []
    for i in range(math.prod(shape)):
        h = ((i + 1) * 2654435761 + seed * 40503) & 0xFFFFFFFF
        h ^= h >> 15
        h = (h * 2246822519) & 0xFFFFFFFF
        h ^= h >> 13
        values.append(((h >> 8) - 8388608) / 8388608 * scale)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def image(seed, n, h, w, c):
    return fill(seed, n, h, w, c).permute(0, 3, 1, 2).contiguous()


def leaf(t):
    return t.detach().clone().requires_grad_(True)


def emit(name, t):
    t = t.detach()
    if t.dim() == 4 and not name.endswith("_dw"):
        t = t.permute(0, 2, 3, 1)
    values = [f"{v:.9g}" for v in t.reshape(-1).tolist()]
    values = [v + "f" if any(c in v for c in ".e") else v + ".0f" for v in values]
    print(f"static const float {name}[{len(values)}] = {{")
    line = "   "
    for i, v in enumerate(values):
        if len(line) + len(v) + (3 if i + 1 == len(values) else 2) > 100:
            print(line)
            line = "   "
        line += f" {v},"
    print(line.rstrip(",") + "};")


def weighted(y, seed):
    """A scalar whose gradient by y is fill(seed)."""
    if y.dim() == 4:
        n, c, h, w = y.shape
        return (y * image(seed, n, h, w, c)).sum()
    return (y * fill(seed, *y.shape)).sum()


def conv(name, height, width, stride):
    x, w = leaf(image(1, 2, height, width, 3)), leaf(fill(2, 4, 3, 3, 3))
    y = F.conv2d(x, w, stride=stride, padding=1)
    weighted(y, 3).backward()
    emit(name + "_y", y)
    emit(name + "_dx", x.grad)
    emit(name + "_dw", w.grad)


def batchnorm():
    x, gamma, beta = leaf(image(4, 3, 3, 2, 5)), leaf(fill(5, 5)), leaf(fill(6, 5))
    mean, var = fill(7, 5), fill(8, 5) * 0.5 + 1.0
    emit("norm_eval_y", F.batch_norm(x, mean, var, gamma, beta, False, 0.1, 1e-5))
    y = F.batch_norm(x, mean, var, gamma, beta, True, 0.1, 1e-5)
    weighted(y, 9).backward()
    emit("norm_y", y)
    emit("norm_dx", x.grad)
    emit("norm_dgamma", gamma.grad)
    emit("norm_dbeta", beta.grad)
    emit("norm_mean", mean)
    emit("norm_var", var)


def images_op(name, op):
    x = leaf(image(10, 2, 7, 5, 3))
    y = op(x)
    weighted(y, 11).backward()
    emit(name + "_y", y)
    emit(name + "_dx", x.grad)


def linear():
    x, w, b = leaf(fill(12, 4, 7)), leaf(fill(13, 5, 7)), leaf(fill(14, 5))
    y = F.linear(x, w, b)
    weighted(y, 15).backward()
    emit("linear_y", y)
    emit("linear_dx", x.grad)
    emit("linear_weight_grad", w.grad)
    emit("linear_bias_grad", b.grad)


LABELS = torch.tensor([0, 3, 1, 2, 3])


def loss(name, value, x):
    value.backward()
    emit(name + "_loss", value)
    emit(name + "_dx", x.grad)


def cross_entropy(name, s):
    z = leaf(fill(16, 5, 4, scale=4.0))
    k = z.shape[1]
    # PyTorch spreads the smoothed part over all K classes, osr over the K - 1 others
    loss(name, F.cross_entropy(z, LABELS, label_smoothing=s * k / (k - 1)), z)


def cac():
    z = leaf(fill(17, 5, 4, scale=8.0))
    d = torch.cdist(z, 10.0 * torch.eye(4, dtype=z.dtype),
                    compute_mode="donot_use_mm_for_euclid_dist")
    own = d.gather(1, LABELS[:, None])
    others = torch.exp(own - d) * (1 - F.one_hot(LABELS, 4))
    emit("cac_distances", d)
    loss("cac", (torch.log(1 + others.sum(1)) + 0.1 * own[:, 0]).mean(), z)


def movr():
    r, w = leaf(fill(18, 5, 6)), leaf(fill(19, 4, 6))
    c = F.normalize(r, dim=1) @ F.normalize(w, dim=1).t()
    s = 32.0 * torch.cos(torch.arccos(c) + 0.5)
    wanted = F.one_hot(LABELS, 4).to(s.dtype)
    emit("movr_cosines", c)
    value = F.binary_cross_entropy_with_logits(s, wanted, reduction="none").sum(1).mean()
    loss("movr", value, r)
    emit("movr_weight_grad", w.grad)


def ovr():
    z = leaf(fill(16, 5, 4, scale=4.0))
    wanted = F.one_hot(LABELS, 4).to(z.dtype)
    value = F.binary_cross_entropy_with_logits(z, wanted, reduction="none").sum(1).mean()
    loss("ovr", value, z)


def points(name):
    """Losses with learned points: 5 representations of 6 features, 4 points."""
    weight, smoothing = 0.25, 0.15
    x, p = leaf(fill(25, 5, 6)), leaf(fill(26, 4, 6))
    radius = leaf(torch.full((1,), 1.75, dtype=x.dtype))
    d = (x[:, None] - p[None]).pow(2).mean(2)
    own = d.gather(1, LABELS[:, None])[:, 0]
    if name == "gcpl":
        z, term = -d, own.mean() / 2
    elif name == "rpl":
        z, term = d, F.mse_loss(own, radius.expand(5))
    elif name == "arpl":
        z = d - x @ p.t()
        if not 0 < (own - radius + 1).relu().count_nonzero() < 5:
            raise ValueError("all distances lie on one side of the margin")
        term = F.margin_ranking_loss(radius.expand(5), own, torch.ones(5), margin=1.0)
    else:
        w = fill(28, 4, 6)
        z, term = x @ w.t(), (x - p[LABELS]).pow(2).sum(1).mean() / 2
    value = F.cross_entropy(z, LABELS, label_smoothing=smoothing * 4 / 3) + weight * term
    emit(name + "_logits", z)
    loss(name, value, x)
    # the centres' own rate is 1 / weight
    emit(name + "_points_grad", p.grad / weight if name == "center" else p.grad)
    if radius.grad is not None:
        emit(name + "_radius_grad", radius.grad)


def difair():
    features, classes, alpha = 2, 4, 10.0
    r = leaf(fill(20, 5, classes * features, scale=8.0))
    anchors = alpha * torch.eye(classes, dtype=r.dtype).repeat_interleave(features, dim=1)
    own = (r - anchors[LABELS]).norm(dim=1)
    radius = 20.0
    if not own.min() < radius < own.max():
        raise ValueError("all distances lie on one side of the radius")
    loss("difair", (0.1 * own + F.relu(own - radius)).mean(), r)


def correlation(name, paper):
    classes, features = 2, 3
    w = leaf(fill(21, classes * features, 2, 2, 2))
    rows = w.reshape(classes, features, -1)
    rows = rows - rows.mean(dim=2, keepdim=True)
    rows = rows / rows.pow(2).mean(dim=2, keepdim=True).sqrt()
    rho = rows @ rows.transpose(1, 2) / rows.shape[2]
    pairs = torch.triu(torch.ones(features, features, dtype=w.dtype), diagonal=1)
    if paper:
        value = (rho * pairs).sum() * 2 / (features * (features - 1)) / classes
    else:
        value = (rho.abs() * pairs).sum() / features**2
    value.backward()
    emit(name + "_loss", value)
    emit(name + "_dw", w.grad)


def optimiser(name, make):
    w = leaf(fill(22, 9))
    update = make([w])
    for step in range(2):
        w.grad = fill(23 + step, 9)
        update.step()
    emit(name + "_w", w)


def main():
    print("/* vectors.h - written by make_vectors.py with PyTorch " + torch.__version__ + " */")
    print("#ifndef VECTORS_H\n#define VECTORS_H\n")
    conv("conv_s1", 5, 5, 1)
    conv("conv_s2", 7, 5, 2)
    batchnorm()
    images_op("leaky", lambda x: F.leaky_relu(x, 0.2))
    images_op("max2", lambda x: F.max_pool2d(x, 2))
    images_op("max3", lambda x: F.max_pool2d(x, 3, 2))
    images_op("avg3", lambda x: F.avg_pool2d(x, 3, 2))
    images_op("global", lambda x: x.mean(dim=(2, 3)))
    images_op("flatten", lambda x: x.flatten(1))
    linear()
    cross_entropy("ce", 0.0)
    cross_entropy("smooth", 0.15)
    cac()
    movr()
    ovr()
    for name in ("center", "gcpl", "rpl", "arpl"):
        points(name)
    difair()
    correlation("corr_code", False)
    correlation("corr_paper", True)
    optimiser("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
    optimiser("adam", lambda p: torch.optim.Adam(p, lr=0.1))
    optimiser("adam_l2", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.5))
    optimiser("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5))
    print("\n#endif")
    return 0


if __name__ == "__main__":
    sys.exit(main())

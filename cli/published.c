/* published.c - the rows of published.h. */
#include "published.h"

#include <stddef.h>

enum { CAC, DIFAIR, VAZE };

const struct published_source published_sources[] = {
    {"Miller et al., WACV 2021 (CAC)", "neal", "cac", 5},
    {"the DIFAIR paper", "arpl", "difair", 5},
    {"Vaze et al., ICLR 2022", "arpl", "vaze", 5}};

const struct published_remark published_remarks[] = {
    {CAC, NULL, NULL, "older class lists of the same sizes, and constants of theirs to normalise"},
    {CAC, NULL, "cac", "weights of the lowest anchor term on validation"},
    {CAC, "cifar10|cifar+10|cifar+50|tinyimagenet", "cac",
     "anchors that are means over flipped copies, too"},
    {CAC, NULL, "ce", "weights of the best accuracy on validation"},
    {DIFAIR, NULL, NULL, "training images shuffled 2000 at a time"},
    {DIFAIR, "svhn", NULL, "standard deviations taken for variances"},
    {DIFAIR, NULL, "difair", "sums over a batch divided by 128, if it is shorter, too"},
    {DIFAIR, NULL, "ce|cac",
     "TensorFlow's padding of strided layers, batch norm of epsilon 1e-3 and momentum 0.99, "
     "convolutions that start from N(0, 0.05), the linear layer Glorot uniform"},
    {DIFAIR, NULL, "cac",
     "a loss that counts the true class twice, scores that depend on the batch"},
    {VAZE, NULL, NULL,
     "convolutions that start from N(0, 0.05), batch norm from gammas of N(1, 0.02), the linear "
     "layer from U(+-1/sqrt(128))"}};

const int published_remark_count = (int)(sizeof published_remarks / sizeof published_remarks[0]);

/* In the order of the columns of the papers' tables. */
#define SIX(method, score, source, m, ma, s, sa, c, ca, c10, c10a, c50, c50a, t, ta)               \
    {method, score, "mnist", m, ma, source}, {method, score, "svhn", s, sa, source},               \
    {method, score, "cifar10", c, ca, source}, {method, score, "cifar+10", c10, c10a, source},     \
    {method, score, "cifar+50", c50, c50a, source}, {method, score, "tinyimagenet", t, ta, source}

const struct published_figure published_figures[] = {
    SIX("cac", "cac", CAC, 98.5, 99.8, 93.8, 97.0, 80.3, 93.4, 86.3, 95.2, 87.2, 95.2, 77.2, 75.9),
    SIX("ce", "msp", CAC, 97.8, 99.7, 88.6, 96.3, 67.7, 92.7, 81.6, 94.7, 80.5, 94.7, 57.7, 73.3),
    SIX("cac", "cac", DIFAIR, 99.11, 99.81, 96.61, 98.11, 86.43, 96.42, 86.03, 96.20, 87.28, 96.43,
        67.65, 77.68),
    SIX("difair", "difair", DIFAIR, 98.35, 99.81, 95.45, 98.04, 85.04, 96.35, 83.86, 95.82, 84.52,
        96.49, 73.38, 76.06),
    SIX("ce", "msp", DIFAIR, 99.32, 99.8, 95.38, 97.7, 89.78, 96.28, 89.60, 96.02, 90.13, 96.48,
        73.24, 74.48),
    SIX("ce", "mls", DIFAIR, 99.55, 99.8, 96.66, 97.7, 92.55, 96.28, 91.10, 96.02, 92.53, 96.48,
        73.87, 74.48),
    SIX("ce", "mls", VAZE, 99.3, 0, 97.1, 0, 93.6, 0, 97.9, 0, 96.5, 0, 83.0, 0)};

const int published_count = (int)(sizeof published_figures / sizeof published_figures[0]);

#!/usr/bin/env python3
"""Compares osr bench with PyTorch on the same cores: a network with CAC, 3 x 32 x 32 pixels, 6
classes.

    python3 bench_pytorch.py build/osr [--network vgg32] [--batch 64] [--rounds 5]

A round times some training steps and inference batches in PyTorch, with images stored channel
first and channel last, and one run of osr bench. The printed ratios are of the medians over the
rounds, against PyTorch's better layout. Needs PyTorch; nothing else of osr does."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
from networks import NETWORKS, parameters
from torch import nn

CLASSES = 6


class Model(nn.Module):
    """A network with CAC's logits and distances; vgg32 drops whole channels after each block."""

    def __init__(self, network):
        super().__init__()
        dropout = {"dropout": 0.2} if network == "vgg32" else {}
        self.net = NETWORKS[network](classes=CLASSES, **dropout)
        self.register_buffer("anchors", 10.0 * torch.eye(CLASSES))

    def forward(self, x):
        logits = self.net((x - 0.5) / 0.29)
        return logits, (logits[:, None] - self.anchors).norm(dim=2)


def cac_loss(distances, labels):
    own = distances.gather(1, labels[:, None])[:, 0]
    # ln(1 + sum over the others of exp(own - other)): the sum over all has the 1 in it
    return (own + torch.logsumexp(-distances, 1) + 0.1 * own).mean()


class Contender:
    """One layout of PyTorch, with its own weights."""

    def __init__(self, name, layout, network, batch):
        torch.manual_seed(0)
        self.name = name
        self.batch = batch
        self.model = Model(network).to(memory_format=layout)
        self.sgd = torch.optim.SGD(parameters(self.model), lr=0.01, momentum=0.9,
                                   weight_decay=5e-6)
        self.images = torch.rand(batch, 3, 32, 32).contiguous(memory_format=layout)
        self.labels = torch.randint(CLASSES, (batch,))
        self.train_rates, self.infer_rates = [], []

    def train_step(self):
        self.model.train()
        loss = cac_loss(self.model(self.images)[1], self.labels)
        self.sgd.zero_grad(set_to_none=True)
        loss.backward()
        self.sgd.step()
        return loss.item()

    def infer_batch(self):
        self.model.eval()
        with torch.inference_mode():
            return self.model(self.images)[1].sum().item()

    def measure(self, steps):
        for work, rates in ((self.train_step, self.train_rates),
                            (self.infer_batch, self.infer_rates)):
            work()
            for _ in range(steps):
                start = time.perf_counter()
                work()
                rates.append(self.batch / (time.perf_counter() - start))


def osr_bench(options):
    command = [options.program, "bench", "--json", "--network", options.network,
               "--batch", str(options.batch), "--steps", str(options.steps)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def report(contenders, runs):
    train = max(statistics.median(c.train_rates) for c in contenders)
    infer = max(statistics.median(c.infer_rates) for c in contenders)
    osr_train = statistics.median(r["train_images_per_s"] for r in runs)
    osr_infer = statistics.median(r["infer_images_per_s"] for r in runs)
    for c in contenders:
        print(f"PyTorch, {c.name:14}  training {statistics.median(c.train_rates):8.1f} images/s"
              f"  inference {statistics.median(c.infer_rates):8.1f} images/s")
    print(f"osr                      training {osr_train:8.1f} images/s"
          f"  inference {osr_infer:8.1f} images/s")
    print(f"osr / PyTorch            training {osr_train / train:8.2f}"
          f"           inference {osr_infer / infer:8.2f}")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    osr_resident = max(r["peak_resident_bytes"] for r in runs) / 2**20
    print(f"peak resident memory     PyTorch (both layouts) {resident:.0f} MiB, "
          f"osr {osr_resident:.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description="osr bench against PyTorch")
    parser.add_argument("program", help="path of osr")
    parser.add_argument("--network", default="vgg32", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in each round")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"{options.network}, batch {options.batch}, "
          f"medians over {options.rounds} rounds of {options.steps} steps")
    layouts = {"channel first": torch.contiguous_format, "channel last": torch.channels_last}
    contenders = [Contender(name, layout, options.network, options.batch)
                  for name, layout in layouts.items()]
    runs = []
    for i in range(options.rounds):
        for c in contenders:
            c.measure(options.steps)
        runs.append(osr_bench(options))
        print(f"round {i + 1} of {options.rounds}", file=sys.stderr)
    print(f"device: {runs[0]['device']}, kernels: {runs[0]['kernels']}")
    report(contenders, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

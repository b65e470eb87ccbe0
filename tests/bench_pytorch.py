#!/usr/bin/env python3
"""Compares osr bench with PyTorch on the same cores: a network with CAC, 3 x 32 x 32 pixels, 6
classes.

    python3 bench_pytorch.py build/osr [--network vgg32] [--batch 64] [--rounds 5] [--steps 5]
                             [--threads N] [--memory] [--sweep]

A round times some training steps and inference batches in PyTorch, with images stored channel
first and channel last, and one run of osr bench. The printed ratios are of the medians over the
rounds, against PyTorch's better layout. One image's latency comes with it. --memory adds the
resident peak of a process that trains at batch 128, and how it grows with each image from batch 64
to 256; --sweep the rates of batches 8 to 512. Both use the same number of threads. Needs PyTorch;
nothing else of osr does."""

import argparse
import json
import os
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
        self.train_rates, self.infer_rates, self.latencies = [], [], []

    def train_step(self):
        self.model.train()
        loss = cac_loss(self.model(self.images)[1], self.labels)
        self.sgd.zero_grad(set_to_none=True)
        loss.backward()
        self.sgd.step()
        return loss.item()

    def infer_batch(self, count=None):
        self.model.eval()
        with torch.inference_mode():
            return self.model(self.images[:count])[1].sum().item()

    def measure(self, steps):
        for work, rates in ((self.train_step, self.train_rates),
                            (self.infer_batch, self.infer_rates)):
            work()
            for _ in range(steps):
                start = time.perf_counter()
                work()
                rates.append(self.batch / (time.perf_counter() - start))
        self.infer_batch(1)
        for _ in range(steps):
            start = time.perf_counter()
            self.infer_batch(1)
            self.latencies.append(time.perf_counter() - start)


LAYOUTS = (("channel first", torch.contiguous_format), ("channel last", torch.channels_last))


def osr_bench(options, batch, steps):
    command = [options.program, "bench", "--json", "--quiet", "--network", options.network,
               "--batch", str(batch), "--steps", str(steps)]
    environment = dict(os.environ, POCL_MAX_PTHREAD_COUNT=str(options.threads),
                       POCL_CPU_MAX_CU_COUNT=str(options.threads))
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE,
                                     env=environment).stdout)


def torch_resident(options, batch):
    """Resident peak of a process of its own that trains in the better layout for memory."""
    command = [sys.executable, __file__, options.program, "--threads", str(options.threads),
               "--network", options.network, "--batch", str(batch),
               "--steps", str(options.steps), "--resident"]
    runs = [subprocess.run(command + [name], check=True, stdout=subprocess.PIPE)
            for name, _ in LAYOUTS]
    return min(int(run.stdout) for run in runs)


def print_resident(options):
    contender = Contender(options.resident, dict(LAYOUTS)[options.resident], options.network,
                          options.batch)
    for _ in range(options.steps):
        contender.train_step()
    with open("/proc/self/status", encoding="ascii") as status:
        print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024)


def median_of(values):
    return statistics.median(values)


def report(contenders, runs):
    train = max(median_of(c.train_rates) for c in contenders)
    infer = max(median_of(c.infer_rates) for c in contenders)
    latency = min(median_of(c.latencies) for c in contenders) * 1e3
    osr_train = median_of(r["train_images_per_s"] for r in runs)
    osr_infer = median_of(r["infer_images_per_s"] for r in runs)
    osr_latency = median_of(r["latency_s"] for r in runs) * 1e3
    for c in contenders:
        print(f"PyTorch, {c.name:14}  training {median_of(c.train_rates):8.1f} images/s"
              f"  inference {median_of(c.infer_rates):8.1f} images/s"
              f"  one image {median_of(c.latencies) * 1e3:7.2f} ms")
    print(f"osr                      training {osr_train:8.1f} images/s"
          f"  inference {osr_infer:8.1f} images/s  one image {osr_latency:7.2f} ms")
    print(f"osr / PyTorch            training {osr_train / train:8.2f}"
          f"           inference {osr_infer / infer:8.2f}           one image "
          f"{osr_latency / latency:7.2f}")


def report_memory(options):
    print(f"{'resident peak':14} {'PyTorch':>12} {'osr':>12} {'ratio':>7}")
    torch_peak, osr_peak = {}, {}
    for batch in (64, 128, 256):
        torch_peak[batch] = torch_resident(options, batch)
        osr_peak[batch] = osr_bench(options, batch, options.steps)["peak_resident_bytes"]
        print(f"batch {batch:<4} MiB  {torch_peak[batch] / 2**20:12.1f}"
              f" {osr_peak[batch] / 2**20:12.1f} {osr_peak[batch] / torch_peak[batch]:7.2f}")
    slopes = [(peak[256] - peak[64]) / 192 for peak in (torch_peak, osr_peak)]
    print(f"bytes an image {slopes[0]:12.0f} {slopes[1]:12.0f} {slopes[1] / slopes[0]:7.2f}")


def report_sweep(options):
    print(f"{'batch':>5}  {'training: PyTorch':>18} {'osr':>8} {'ratio':>6}"
          f"  {'inference: PyTorch':>19} {'osr':>8} {'ratio':>6}")
    for batch in (8, 16, 32, 64, 128, 256, 512):
        contenders = [Contender(name, layout, options.network, batch) for name, layout in LAYOUTS]
        for c in contenders:
            c.measure(options.steps)
        run = osr_bench(options, batch, options.steps)
        train = max(median_of(c.train_rates) for c in contenders)
        infer = max(median_of(c.infer_rates) for c in contenders)
        osr_train, osr_infer = run["train_images_per_s"], run["infer_images_per_s"]
        print(f"{batch:5}  {train:18.1f} {osr_train:8.1f} {osr_train / train:6.2f}"
              f"  {infer:19.1f} {osr_infer:8.1f} {osr_infer / infer:6.2f}")


def main():
    parser = argparse.ArgumentParser(description="osr bench against PyTorch")
    parser.add_argument("program", help="path of osr")
    parser.add_argument("--network", default="vgg32", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both")
    parser.add_argument("--memory", action="store_true", help="resident memory by batch")
    parser.add_argument("--sweep", action="store_true", help="rates by batch")
    parser.add_argument("--resident", choices=[name for name, _ in LAYOUTS],
                        help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.resident:
        print_resident(options)
        return 0
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads in both, "
          f"{options.network}, batch {options.batch}, "
          f"medians over {options.rounds} rounds of {options.steps} steps")
    contenders = [Contender(name, layout, options.network, options.batch)
                  for name, layout in LAYOUTS]
    runs = []
    for i in range(options.rounds):
        for c in contenders:
            c.measure(options.steps)
        runs.append(osr_bench(options, options.batch, options.steps))
        print(f"round {i + 1} of {options.rounds}", file=sys.stderr)
    print(f"device: {runs[0]['device']}, kernels: {runs[0]['kernels']}")
    report(contenders, runs)
    del contenders
    if options.memory:
        report_memory(options)
    if options.sweep:
        report_sweep(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Random weights of PyTorch through osr import, with each map in ../maps: the logits must agree to
1e-4. The file is written by the lines in the README.

    python3 import_pytorch.py build/osr build/tests/test_import

Needs PyTorch; nothing else of osr does."""

import os
import re
import subprocess
import sys
import tempfile

import torch
from networks import IMPORTS, renamed
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES, COUNT = 20, 16


def readme_save():
    """save() as the README has it."""
    with open(os.path.join(HERE, "..", "README.md"), encoding="ascii") as file:
        block = re.search(r"```python\n(.*?)\nsave\(", file.read(), re.S)
    names = {}
    exec(block.group(1), names)
    return names["save"]


def random_weights(net):
    """As after some training: statistics and scales that are not 0 and 1."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
    return net.eval()


def check(program, judge, save, folder, name, side):
    network, options, made, names = IMPORTS[name]
    net = random_weights(made(classes=CLASSES, side=side))
    weights, model, expected = (os.path.join(folder, f) for f in ("weights", "model", "expected"))
    save({renamed(key, names): value for key, value in net.state_dict().items()}, weights)
    images = torch.rand(COUNT, 3, side, side)
    mean, std = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26])
    with torch.inference_mode():
        logits = net((images - mean[:, None, None]) / std[:, None, None])
    save({"images": images.permute(0, 2, 3, 1), "logits": logits}, expected)
    subprocess.run([program, "import", weights, model, "--map",
                    os.path.join(HERE, "..", "maps", name + ".map"), "--network", network,
                    *options.split(), "--classes", str(CLASSES), "--size", str(side),
                    "--mean", "0.49,0.48,0.45", "--std", "0.25,0.24,0.26", "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    said = subprocess.run([judge, model, expected], stdout=subprocess.PIPE, text=True)
    largest = logits.abs().max().item()
    print(f"{name} at {side}: {said.stdout.splitlines()[0]}, the largest is {largest:.3g}",
          flush=True)
    return said.returncode


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.manual_seed(0)
    save, failed = readme_save(), 0
    print(f"PyTorch {torch.__version__}, {COUNT} images, {CLASSES} classes")
    with tempfile.TemporaryDirectory() as folder:
        for name in IMPORTS:
            for side in (32, 64):
                failed += check(sys.argv[1], sys.argv[2], save, folder, name, side) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())

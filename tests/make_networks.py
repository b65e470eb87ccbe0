#!/usr/bin/env python3
"""Writes networks.h, the values that test_networks.c holds the ready networks against: number of
parameters, logits, and a training step by PyTorch, in double precision.

    python3 make_networks.py > networks.h

Weights and images are not stored: networks.py and test_networks.c make the same ones."""

import sys

import torch
import torch.nn.functional as F
from networks import IMPORTS, NETWORKS, fill_parameters, images, ordered, parameters, renamed

# Of 2 to 41 the images with the largest margin().
SEEDS = {"vgg32": 12, "wrn-16-4": 9, "resnet-18": 21}
LABELS = torch.tensor([0, 5, 2, 1, 3, 4, 5, 0])


def numbers(values):
    texts = [f"{v:.9g}" for v in values]
    texts = [t + "f" if any(c in t for c in ".e") else t + ".0f" for t in texts]
    lines, line = [], "     {"
    for t in texts:
        if len(line) + len(t) + 3 > 100:
            lines.append(line.rstrip())
            line = "      "
        line += t + ", "
    return "\n".join(lines + [line.rstrip(", ") + "},"])


def make(network, side):
    return fill_parameters(network(side=side).double())


def logits(network, side):
    net = make(network, side).eval()
    with torch.no_grad():
        return net(images(1, 2, side)).flatten().tolist()


def margin(net, seed):
    """The distance from 0 of the value nearest to a rectifier's kink. The other side of the kink
    is another gradient, so that it must be well above the rounding of float32."""
    nearest = []
    kinks = {name: getattr(F, name) for name in ("relu", "leaky_relu")}

    def watched(kink):
        def call(x, *rest):
            nearest.append(x.detach().abs().min().item())
            return kink(x, *rest)
        return call

    for name, kink in kinks.items():
        setattr(F, name, watched(kink))
    with torch.no_grad():
        net(images(seed, 8, 8))
    for name, kink in kinks.items():
        setattr(F, name, kink)
    return min(nearest)


def training(name, network):
    """The images' seed; loss, four numbers of four gradients, and two running statistics of the
    first and the last normalisation."""
    net = make(network, 8).train()
    seed = SEEDS[name]
    print(f"{name}: margin {margin(net, seed):.2g}", file=sys.stderr)
    net = make(network, 8).train()  # with the running statistics as they were
    loss = F.cross_entropy(net(images(seed, 8, 8)), LABELS)
    loss.backward()
    modules = ordered(net)
    norms = [m for m in modules if isinstance(m, torch.nn.BatchNorm2d)]
    values = [loss.item()]
    for module in (modules[0], modules[len(modules) // 2], norms[-1], modules[-1]):
        values += module.weight.grad.flatten()[:4].tolist()
    for norm in (norms[0], norms[-1]):
        values += [norm.running_mean[0].item(), norm.running_var[0].item()]
    return seed, values


def modules(network, names):
    """The names of the layers in osr's order."""
    net = network()
    known = {module: renamed(name, names) for name, module in net.named_modules()}
    return [known[module] for module in ordered(net)]


def strings(words):
    lines, line = [], '     "'
    for word in words:
        if len(line) + len(word) + 4 > 100:
            lines.append(line + '"')
            line = '     "'
        line += word + " "
    return "\n".join(lines + [line.rstrip() + '",'])


def print_imports():
    print("static const struct import_vector {")
    print("    const char *map, *network, *options;")
    print("    const char *layers; /* in osr's order */")
    print("    float at_32[12];")
    print("} import_vectors[] = {")
    for name, (network, options, made, names) in IMPORTS.items():
        print(f'    {{"{name}", "{network}", "{options}",')
        print(strings(modules(made, names)))
        print(numbers(logits(made, 32)).rstrip(",") + "},")
    print("};")


def main():
    print("/* networks.h - written by make_networks.py with PyTorch " + torch.__version__ + " */")
    print("#ifndef NETWORKS_H\n#define NETWORKS_H\n")
    print("static const struct network_vector {")
    print("    const char *name;")
    print("    long parameters; /* 3 channels, 6 classes, 32 pixels */")
    print("    float at_32[12], at_64[12]; /* logits of two images */")
    print("    int seed;        /* of the images of the training step */")
    print("    float step[21];  /* see make_networks.py */")
    print("} network_vectors[] = {")
    for name, network in NETWORKS.items():
        count = sum(p.numel() for p in parameters(network()))
        print(f'    {{"{name}", {count},')
        print(numbers(logits(network, 32)))
        print(numbers(logits(network, 64)))
        seed, values = training(name, network)
        print(f"     {seed},")
        print(numbers(values).rstrip(",") + "},")
    print("};\n")
    print_imports()
    print("\n#endif")
    return 0


if __name__ == "__main__":
    sys.exit(main())

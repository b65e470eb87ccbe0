"""The ready networks in PyTorch, with the names that published weights have: CAC's and Vaze's
classifier for vgg32, the usual WideResNet for wrn-16-4, torchvision's names for resnet-18. What
make_networks.py, bench_pytorch.py and import_pytorch.py hold osr against."""

import numpy
import torch
import torch.nn.functional as F
from torch import nn


def fill(seed, *shape):
    """Values in -1..1, exact in float32: those of make_vectors.py."""
    i = numpy.arange(1, numpy.prod(shape, dtype=int) + 1, dtype=numpy.uint32)
    h = i * numpy.uint32(2654435761) + numpy.uint32(seed * 40503 & 0xFFFFFFFF)
    h ^= h >> 15
    h *= numpy.uint32(2246822519)
    h ^= h >> 13
    values = ((h >> 8).astype(numpy.float64) - 8388608) / 8388608
    return torch.from_numpy(values).reshape(shape)


def conv(inputs, outputs, size=3, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Encoder(nn.Module):
    """The nine convolutions."""

    def __init__(self, channels, dropout):
        super().__init__()
        widths = [channels, 64, 64] + 7 * [128]
        for i in range(9):
            setattr(self, f"conv{i + 1}", conv(widths[i], widths[i + 1], 3, 2 if i % 3 == 2 else 1))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x):
        for i in range(1, 10):
            x = F.leaky_relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)), 0.2)
            x = self.drop(x) if i % 3 == 0 else x
        return x


class Cac(nn.Module):
    """vgg32 as CAC has it: flattened, dropout of whole channels after each block."""

    def __init__(self, classes=6, channels=3, side=32, dropout=0.0):
        super().__init__()
        self.side = side
        self.encoder = Encoder(channels, dropout)
        for i in range(1, 4):  # as published: the same layers once more, by block
            layers = [getattr(self.encoder, f"{kind}{k}") for k in range(3 * i - 2, 3 * i + 1)
                      for kind in ("conv", "bn")]
            setattr(self.encoder, f"encoder{i}", nn.Sequential(*layers))
        self.classify = nn.Linear(128 * (side // 8) ** 2, classes)
        self.anchors = nn.Parameter(10.0 * torch.eye(classes).double(), requires_grad=False)

    def forward(self, x):
        return self.classify(self.encoder(x).flatten(1))


class Vaze(Encoder):
    """vgg32 as Vaze et al. have it: pooled, no bias; bn10 is never used."""

    def __init__(self, classes=6, channels=3, side=32):
        super().__init__(channels, 0.0)
        self.side = side
        self.bn10 = nn.BatchNorm2d(128)
        self.fc = nn.Linear(128, classes, bias=False)

    def forward(self, x):
        return self.fc(super().forward(x).mean(dim=(2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (self.convShortcut(active) if self.convShortcut else x)


class WideStage(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride),
                                   WideBlock(outputs, outputs, 1))

    def forward(self, x):
        return self.layer(x)


class Wide(nn.Module):
    """wrn-16-4."""

    def __init__(self, classes=6, channels=3, side=32):
        super().__init__()
        self.side = side
        self.conv1 = conv(channels, 16)
        self.block1 = WideStage(16, 64, 1)
        self.block2 = WideStage(64, 128, 2)
        self.block3 = WideStage(128, 256, 2)
        self.bn1 = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride),
                                            nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet18(nn.Module):
    """resnet-18 with the 3x3 stem."""

    def __init__(self, classes=6, channels=3, side=32):
        super().__init__()
        self.side = side
        self.conv1, self.bn1 = conv(channels, 64), nn.BatchNorm2d(64)
        widths = [64, 64, 128, 256, 512]
        for i in range(1, 5):
            stage = nn.Sequential(BasicBlock(widths[i - 1], widths[i], 2 if i > 1 else 1),
                                  BasicBlock(widths[i], widths[i], 1))
            setattr(self, f"layer{i}", stage)
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


NETWORKS = {"vgg32": Cac, "wrn-16-4": Wide, "resnet-18": ResNet18}

# The maps in ../maps: network, what osr import is told, class, and other names for the same layers.
IMPORTS = {
    "vgg32-cac": ("vgg32", "--method cac", Cac, {}),
    "vgg32-vaze": ("vgg32", "--method ce --head pool --head-bias no", Vaze, {}),
    "wrn-16-4": ("wrn-16-4", "--method ce", Wide, {}),
    "resnet-18-torchvision": ("resnet-18", "--method ce", ResNet18, {}),
    "resnet-18-openood": ("resnet-18", "--method ce", ResNet18, {"downsample": "shortcut"}),
}


def renamed(name, names):
    for old, new in names.items():
        name = name.replace(old, new)
    return name


def parameters(net):
    return [p for p in net.parameters() if p.requires_grad]


def ordered(net):
    """The convolutions, normalisations and the linear layer in osr's order, which is that of the
    forward pass, a block's shortcut after its other layers."""
    found, handles = [], []
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    for module in net.modules():
        if isinstance(module, kinds):
            handles.append(module.register_forward_hook(lambda m, x, y: found.append(m)))
    training = net.training
    net.eval()
    first = next(p for p in net.parameters() if p.dim() == 4)
    with torch.no_grad():
        net(torch.zeros(1, first.shape[1], net.side, net.side, dtype=first.dtype))
    net.train(training)
    for handle in handles:
        handle.remove()
    return found


def fill_parameters(net):
    """Weights that test_networks.c makes too: of about the right size, exact in float32."""
    seed = 100
    with torch.no_grad():
        for module in ordered(net):
            names = ["weight", "bias"]
            if isinstance(module, nn.BatchNorm2d):
                names += ["running_mean", "running_var"]
            for name in names:
                tensor = getattr(module, name)
                if tensor is None:
                    continue
                values = fill(seed, *tensor.shape)
                if name in ("bias", "running_mean"):
                    values = 0.25 * values
                elif tensor.dim() == 1:
                    values = 1.0 + 0.25 * values
                else:
                    scale = 1.0
                    while 6.0 / scale**2 < tensor[0].numel():
                        scale *= 0.5
                    values = scale * values
                tensor.copy_(values)
                seed += 1
    return net


def images(seed, count, side, channels=3):
    """In -1..1, [N, C, H, W] of fill's [N, H, W, C]."""
    return fill(seed, count, side, side, channels).permute(0, 3, 1, 2).contiguous()

"""Networks with normalised membranes whose statistics and weights are random, for the tests of folding."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk


def settle(net: nn.Module, positive: bool = False) -> nn.Module:
    """Random statistics, weights of both signs (none near 0) and biases for every normalisation; eval mode."""
    with torch.no_grad():
        for module in net.modules():
            if not isinstance(module, (nn.modules.batchnorm._BatchNorm, sk.MPBN)):
                continue
            module.running_mean.normal_(0.1, 0.3)
            module.running_var.uniform_(0.1, 1.0)
            module.num_batches_tracked.fill_(10)
            if getattr(module, "positive", False):
                module.weight_raw.normal_()
            else:
                module.weight.uniform_(0.3, 1.5)
                if not positive:
                    module.weight.mul_(torch.randint(0, 2, module.weight.shape) * 2 - 1)
            module.bias.normal_(0, 0.3)
    return net.eval()


def conv_net(reset: str = "soft", element: bool = False, positive: bool = False, **settings: object) -> sk.Sequential:
    """Conv, BN, MPBN, dense, TDBN, MPBN, readout, on [T, B, 2, 8, 8]."""
    shape = (6, 8, 8) if element else 6
    settings = {"reset_quantum": 0.7} | settings
    net = sk.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        sk.LIF(0.6, 0.5, reset, norm=sk.MPBN(shape), **settings),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(384, 20),
        sk.TDBN1d(20),
        sk.LIF(0.8, 0.4, reset, norm=sk.MPBN(20), **settings),
        nn.Linear(20, 5),
        sk.LIF(0.9, 0.2, reset, **settings),
        nn.Linear(5, 3),
        sk.LI(),
    )
    return settle(net, positive)


class Block(nn.Module):
    """A residual block of chains; its neuron follows a sum."""

    def __init__(self, channels: int, out: int, stride: int, reset: str) -> None:
        super().__init__()
        self.branch = sk.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            sk.TDBN2d(out),
            sk.LIF(0.25, 0.5, reset, norm=sk.MPBN(out)),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = sk.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.lif = sk.LIF(0.25, 0.5, reset, norm=sk.MPBN(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.branch(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, two residual blocks, pooling, readout, on [T, B, 2, H, W]; a forward of its own throughout."""

    def __init__(self, width: int = 8, reset: str = "hard") -> None:
        super().__init__()
        self.stem = sk.fold_time(nn.Sequential(nn.Conv2d(2, width, 3, 1, 1), nn.BatchNorm2d(width)))
        self.lif = sk.LIF(0.25, 0.5, reset, norm=sk.MPBN(width))
        self.blocks = sk.Sequential(Block(width, width, 1, reset), Block(width, 2 * width, 2, reset))
        self.head = sk.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.lif(self.stem(x))))


def res_net(width: int = 8, reset: str = "hard") -> nn.Module:
    return settle(ResNet(width, reset))


def frames(steps: int = 8, batch: int = 16, size: int = 8, seed: int = 1) -> torch.Tensor:
    """Binary frames [T, B, 2, size, size]."""
    return (torch.rand(steps, batch, 2, size, size, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def spikes_equal(net, folded, x):
    """Every spike of every layer and the output; returns how often neurons fired."""
    (y, seen), (z, found) = sk.record(net, x), sk.record(folded, x)
    assert list(seen) == list(found)
    for name in seen:
        assert torch.equal(seen[name], found[name]), name
    torch.testing.assert_close(z, y.detach(), rtol=1e-9, atol=1e-9)
    return torch.cat([torch.zeros(0), *(s.flatten() for s in seen.values())]).mean()

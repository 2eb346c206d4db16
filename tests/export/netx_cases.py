"""Networks that netx can hold, with input; the same for who records netx and for who tests against the record."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.export import LoihiNet, to_loihi

CASES = ("netx_dense", "netx_conv", "netx_readout", "netx_bits")


def case(name: str) -> tuple[LoihiNet, Tensor]:
    """The network and binary input [T, B, ...]."""
    torch.manual_seed(CASES.index(name))
    generator = torch.Generator().manual_seed(1)
    if name == "netx_dense":
        net = sk.Sequential(
            nn.Linear(20, 24), sk.LIF(0.8, 0.3, "hard"), nn.Linear(24, 16, bias=False),
            sk.CUBALIF(0.5, 0.9, 0.4, "hard"), nn.Linear(16, 8), sk.IF(0.4, "hard"),
        )  # fmt: skip
        x = torch.rand(12, 3, 20, generator=generator) < 0.4
    else:
        net = sk.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=2, padding=(1, 0)), nn.BatchNorm2d(4), sk.LIF(0.8, 0.3, "hard"),
            nn.Conv2d(4, 6, 2, groups=2), sk.LIF(0.7, 0.2, "hard"), nn.Flatten(),
            nn.Linear(36, 5), sk.LI(0.9) if name == "netx_readout" else sk.LIF(0.9, 0.2, "hard"),
        )  # fmt: skip
        x = torch.rand(10, 3, 2, 8, 6, generator=generator) < 0.4
    return to_loihi(net.eval(), x.float(), target="netx", weight_bits=5 if name == "netx_bits" else 8), x.float()

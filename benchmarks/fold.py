"""Does a folded network fire the same spikes? Ours on whole networks, SpikingJelly's on the same single layers.

Networks have random weights, norms whose weights γ are of the sign asked for, and statistics from data in train mode.
Ours: `sk.fold` and `sk.verify_fold`, each layer on the drive of its unfolded one, and the folded network on its own.
SpikingJelly 2.0: its MPBNLIFNode before and after `re_parameterize_v_threshold()`, on the drive our layer gets too.
It is another model (it keeps BN(u) as its membrane), so each library is compared with itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import spikekit as sk
from benchmarks.contenders import _deprecated_jit
from benchmarks.measure import one_line
from benchmarks.options import begin, parser
from benchmarks.table import grid

BETA, THRESHOLD, STEPS = 0.25, 0.5, 4
RESETS, SIGNS, DTYPES = ("soft", "hard"), ("positive", "mixed", "negative"), (torch.float32, torch.float64)


def neuron(shape: int | tuple[int, ...], reset: str) -> sk.LIF:
    return sk.LIF(BETA, THRESHOLD, reset, reset_quantum=1.0, norm=sk.MPBN(shape))


def mlp(reset: str, element: bool) -> nn.Module:
    """256-512-512-10. For dense layers a channel is a neuron; element: a grid of neurons [16, 32]."""
    shape = (16, 32) if element else 512
    layers: list[nn.Module] = []
    for size in (256, 512):
        layers += [nn.Flatten(), nn.Linear(size, 512), nn.BatchNorm1d(512)]
        layers += [nn.Unflatten(1, (16, 32)), neuron(shape, reset)] if element else [neuron(shape, reset)]
    return sk.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10), sk.LI())


def convnet(reset: str, element: bool) -> nn.Module:
    """Two convolutions on images [2, 16, 16]."""
    layers: list[nn.Module] = []
    for channels, out, size in ((2, 16, 16), (16, 32, 8)):
        layers += [nn.Conv2d(channels, out, 3, 16 // size, 1, bias=False), nn.BatchNorm2d(out)]
        layers.append(neuron((out, size, size) if element else out, reset))
    return sk.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10), sk.LI())


def resnet20(reset: str, element: bool) -> nn.Module:
    """The papers' ResNet-20, an eighth as wide, on images [2, 16, 16]; 19 spiking layers, 8 of them behind a sum."""
    return sk.models.resnet20(in_channels=2, width=0.125, neuron=lambda channels: neuron(channels, reset))


NETWORKS: dict[str, tuple[Callable[[str, bool], nn.Module], tuple[int, ...]]] = {
    "MLP": (mlp, (1, 16, 16)),
    "convnet": (convnet, (2, 16, 16)),
    "ResNet-20": (resnet20, (2, 16, 16)),
}


def settle(net: nn.Module, signs: str, data: Callable[[], Tensor]) -> nn.Module:
    """Random affine parameters of MPBN with weights of these signs, statistics of ten batches; eval mode."""
    for module in net.modules():
        if isinstance(module, sk.MPBN):
            size = torch.empty(module.shape).uniform_(0.3, 1.5)
            flip = {"positive": 1, "negative": -1, "mixed": torch.randint(0, 2, module.shape) * 2 - 1}[signs]
            module.weight.data = (size * flip).to(module.weight)
            module.bias.data.normal_(0, 0.3)
    with torch.no_grad():
        for _ in range(10):
            net.train()(data())
    return net.eval()


def probe(
    name: str, reset: str, signs: str, element: bool, dtype: torch.dtype, decisions: int, batch: int = 64
) -> dict[str, Any]:
    """One network folded and verified on random frames, until so many decisions were compared."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]

    def frames() -> Tensor:
        return (torch.rand(STEPS, batch, *shape) < 0.3).to(dtype)

    net = settle(build(reset, element).to(dtype), signs, frames)
    folded = sk.fold(net)
    total = dict.fromkeys(("decisions", "spikes", "mismatches", "away", "ties", "end_to_end"), 0)
    margin = float("inf")
    while total["decisions"] < decisions:
        proof = sk.verify_fold(net, frames(), folded)
        margin = min(margin, proof.margin)
        for layer in proof.layers:
            for what in total:
                total[what] += getattr(layer, what)
    shown = {"network": name, "reset": reset, "signs": signs, "norm": "element" if element else "channel"}
    return shown | {"dtype": str(dtype).removeprefix("torch.")} | total | {"margin": margin}


def layer_drive(conv: bool) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 256, *((16, 8, 8) if conv else (256,)), generator=generator) * 0.7 + 0.2


def peer(reset: str, signs: str, conv: bool, residual: bool) -> dict[str, Any]:
    """SpikingJelly's node and ours against their own folds on one drive. Raises ImportError."""
    with _deprecated_jit():
        from spikingjelly.activation_based import functional, neuron

    x = layer_drive(conv)
    channels = x.shape[2]
    torch.manual_seed(0)
    ours = settle(sk.LIF(BETA, THRESHOLD, reset, norm=sk.MPBN(channels)), signs, lambda: layer_drive(conv))
    theirs = neuron.MPBNLIFNode(
        tau=1 / (1 - BETA),
        decay_input=False,
        v_threshold=THRESHOLD,
        v_reset=None if reset == "soft" else 0.0,
        step_mode="m",
        **{"out_channels" if conv else "out_features": channels},
    )
    theirs.vbn.weight.data.copy_(ours.norm.weight.data)
    theirs.vbn.bias.data.copy_(ours.norm.bias.data)
    with torch.no_grad():
        for _ in range(10):
            functional.reset_net(theirs.train())
            theirs(x)
        functional.reset_net(theirs.eval())
        before = theirs(x)
        functional.reset_net(theirs)
        theirs.re_parameterize_v_threshold(normalize_residual=residual)
        after = theirs(x)
    proof = sk.verify_fold(ours, x)
    return {
        "layer": "conv" if conv else "dense",
        "reset": reset,
        "signs": signs,
        "normalize_residual": residual,
        "decisions": before.numel(),
        "spikes": int(before.sum()),
        "theirs": int((before != after).sum()),
        "ours": proof.mismatches,
    }


def cases(names: Sequence[str] = tuple(NETWORKS)) -> list[tuple[str, str, str, bool, torch.dtype]]:
    """What `probe` takes: every combination, but no norm a neuron in ResNet-20."""
    found = itertools.product(names, RESETS, SIGNS, (False, True), DTYPES)
    return [case for case in found if not (case[0] == "ResNet-20" and case[3])]


def run(decisions: int, batch: int = 64) -> dict[str, Any]:
    """Every probe of ours, with so many decisions each or a little more, and of the peer."""
    probes = [probe(*case, decisions, batch) for case in cases()]
    peers: list[dict[str, Any]] = []
    absent = None
    for reset, signs, conv, residual in itertools.product(RESETS, SIGNS, (False, True), (False, True)):
        try:
            peers.append(peer(reset, signs, conv, residual))
        except Exception as error:
            absent = one_line(error)
            break
    return {"probes": probes, "peers": peers, "absent": absent}


def show(report: dict[str, Any]) -> str:
    """Ours probe by probe with the sum, and the peer beside ours."""
    head = ["network", "reset", "γ", "norm", "dtype", "decisions", "differ", "away from ties"]
    head += ["ties", "closest", "end to end"]
    rows = [
        [
            *(found[key] for key in ("network", "reset", "signs", "norm", "dtype")),
            *(f"{found[key]:,}" for key in ("decisions", "mismatches", "away", "ties")),
            f"{found['margin']:.1e}",
            f"{found['end_to_end']:,}",
        ]
        for found in report["probes"]
    ]
    total = {key: sum(found[key] for found in report["probes"]) for key in ("decisions", "mismatches", "away", "ties")}
    lines = grid(head, rows)
    lines.append(
        f"spikekit, in all: {total['away']:,} of {total['decisions']:,} decisions differ away from ties, "
        f"{total['mismatches']:,} with ties, of which there are {total['ties']:,} (|margin| < 1e-6)\n"
    )
    if report["absent"]:
        return "\n".join([*lines, f"SpikingJelly: {report['absent']}"])
    head = ["layer", "reset", "γ", "normalize_residual", "decisions", "spikingjelly differs", "spikekit differs"]
    rows = [
        [
            *(str(found[key]) for key in ("layer", "reset", "signs", "normalize_residual")),
            f"{found['decisions']:,}",
            f"{found['theirs']:,} ({found['theirs'] / found['decisions']:.1%})",
            f"{found['ours']:,}",
        ]
        for found in report["peers"]
    ]
    return "\n".join([*lines, *grid(head, rows)])


def write(asked: argparse.Namespace, report: dict[str, Any]) -> None:
    """Print the report and keep it as JSON and Markdown."""
    text = show(report)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"fold-{asked.threads}t{'-quick' if asked.quick else ''}"
    file.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"# {file.name}\n\n{text}\n", encoding="utf-8")
    print(f"\nwritten: {file}.json, .md")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("fold", __doc__)
    options.add_argument("--decisions", type=int, default=1_000_000, help="of each of the 60 probes; 1000 when quick")
    asked = options.parse_args(arguments)
    report = begin(asked, "fold")
    report |= run(1000, batch=4) if asked.quick else run(asked.decisions)
    write(asked, report)


if __name__ == "__main__":
    main()

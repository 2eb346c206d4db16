"""One run of `benchmarks.continual`: its data, network and neuron, its rule, its method."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import spikekit as sk
from benchmarks.continual_data import five
from spikekit import continual as cl
from spikekit import datasets, learning
from spikekit.errors import InputError


@dataclass(frozen=True)
class Setup:
    """A protocol and how it is trained. units, rate: of HLOP; explained: of GPM; strength: of EWC; capacity: of replay.

    Strength and explained of PMNIST were chosen among three each on five tasks of 6,000 images.
    """

    data: str
    scenario: str
    hidden: tuple[int, ...]
    units: Any
    tasks: int = 5
    epochs: int = 1
    lr: float = 0.1
    batch: int = 64
    explained: float = 0.95
    strength: float = 1000.0
    capacity: int = 200
    rate: float = 1.0


SETUPS = {
    "pmnist": Setup("MNIST", "permuted", (800, 800), "pmnist", tasks=10, explained=0.9, strength=30.0),
    "mnist-task": Setup("MNIST", "task", (400, 400), [[80, 60], [50, 50]]),
    "mnist-class": Setup("MNIST", "class", (400, 400), [[80, 60, 60], [50, 50, 50]]),
    "fashion-task": Setup("FashionMNIST", "task", (400, 400), [[80, 60], [50, 50]]),
    "fashion-class": Setup("FashionMNIST", "class", (400, 400), [[160, 120, 120], [80, 65, 65]]),
    "nmnist-task": Setup("NMNIST", "task", (16, 32), [[10, 30], [4, 15]], epochs=10, batch=20),
    # A task is 100 batches, and a direction is learned in power / (rate · its power) changes: more units, faster.
    "nmnist-class": Setup("NMNIST", "class", (16, 32), [[20, 60, 500], [5, 12, 98]], epochs=10, batch=20, rate=4.0),
    "five": Setup("five", "task", (800, 800), [[100, 150], [100, 100]], epochs=3),
}
METHODS = ("plain", "hlop", "hlop-qr", "hlop-fast", "gpm", "ewc", "replay", "sparse")
RULES = ("bptt", "ottt", "dsr")


@dataclass(frozen=True)
class Run:
    """One training; subset: training images of a task, None for all."""

    protocol: str
    method: str
    rule: str
    seed: int
    subset: int | None

    @property
    def name(self) -> str:
        return f"{self.method}-{self.rule}-{self.seed}"

    @property
    def group(self) -> str:
        return self.protocol + ("" if self.subset is None else f"-{self.subset}")

    @property
    def steps(self) -> int:
        """T."""
        setup = SETUPS[self.protocol]
        return 10 if setup.data == "NMNIST" else 20 if self.rule == "dsr" else 6


def settings(run: Run) -> dict[str, Any]:
    """What a result depends on."""
    own = {"gpm": {"explained"}, "ewc": {"strength"}, "replay": {"capacity"}}
    own |= {name: {"units"} for name in METHODS if name.startswith("hlop")}
    others = {"explained", "strength", "capacity", "units", "rate"} - own.get(run.method, set())
    shared = {name: value for name, value in asdict(SETUPS[run.protocol]).items() if name not in others}
    shared |= {"review": review(run)} if review(run) else {}
    shared |= {"rate": rate} if run.method.startswith("hlop") and (rate := SETUPS[run.protocol].rate) != 1 else {}
    return shared | {"steps": run.steps, "neuron": neuron(run)[1], "rule": repr(rule(run))}


def is_of(found: dict[str, Any], run: Run) -> bool:
    """Whether a stored result is of this run as it would be now."""
    now = json.loads(json.dumps(settings(run)))
    return all(found["settings"].get(name) == value for name, value in now.items())


def review(run: Run) -> int:
    """Samples that HLOP's units look at once more: where one head is shared by classes of all tasks."""
    return 1000 if run.method.startswith("hlop") and SETUPS[run.protocol].scenario == "class" else 0


def neuron(run: Run) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    """The papers' neurons: HLOP's for BPTT and OTTT, and that of DSR; one of rising threshold for sparse codes."""
    # Events are sparse, and weights start small.
    threshold = 0.2 if SETUPS[run.protocol].data == "NMNIST" else 1.0
    numbers: dict[str, Any] = {"beta": 0.5, "threshold": threshold}
    if run.rule == "dsr":
        numbers = {"beta": math.exp(-0.05), "threshold": 0.3, "reset_quantum": 1.0}
    if run.method == "sparse":
        numbers |= {"rho": 0.9, "step": 0.5}
    kind = sk.ALIF if run.method == "sparse" else sk.LIF
    return partial(kind, **numbers, detach_reset=True, surrogate=sk.surrogate.Sigmoid(4.0)), numbers


def rule(run: Run) -> learning.Rule:
    rules: dict[str, Callable[[], learning.Rule]] = {
        "bptt": learning.BPTT,
        "ottt": partial(learning.OTTT, decay=0.5, trace_input=False),
        "dsr": learning.DSR,
    }
    return rules[run.rule]()


@functools.lru_cache(maxsize=2)
def _data(name: str) -> tuple[Any, Any]:
    if name == "NMNIST":
        return tuple(datasets.FrameDataset(datasets.NMNIST(split), n_bins=10) for split in ("train", "test"))  # type: ignore[return-value, arg-type]
    return tuple(getattr(datasets, name)(split) for split in ("train", "test"))  # type: ignore[return-value]


def protocol(run: Run) -> cl.Protocol:
    setup = SETUPS[run.protocol]
    if setup.data == "five":
        return cl.mixed(five(run.steps) if run.subset is None else five(run.steps, run.subset))
    train, test = _data(setup.data)
    if setup.data == "NMNIST":
        return cl.split_frames(train, test, scenario=setup.scenario, limit=run.subset)
    if setup.scenario == "permuted":
        return cl.permuted(train, test, tasks=setup.tasks, steps=run.steps, limit=run.subset, seed=run.seed)
    return cl.split_images(train, test, scenario=setup.scenario, steps=run.steps, limit=run.subset)


def network(run: Run) -> sk.Sequential:
    """Without biases, as the paper's; the readout is the mean over time of the last layer."""
    torch.manual_seed(run.seed)
    setup, make = SETUPS[run.protocol], neuron(run)[0]
    if setup.data == "NMNIST":
        first, second = setup.hidden
        return sk.Sequential(
            *(nn.Conv2d(2, first, 5, stride=2, bias=False), make()),
            *(nn.Conv2d(first, second, 3, stride=2, bias=False), make()),
            *(nn.Flatten(), nn.Linear(second * 49, 10, bias=False)),
        )
    widths, layers = (784, *setup.hidden), []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=False), make()]
    return sk.Sequential(*layers, nn.Linear(widths[-1], 50 if setup.data == "five" else 10, bias=False))


def method(run: Run, net: sk.Sequential) -> cl.Method:
    """The method; a layer whose outputs are masked by task is not projected."""
    setup = SETUPS[run.protocol]
    weights = [name for name, layer in net.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    layers = weights[:-1] if setup.scenario == "task" else weights
    if run.method in ("hlop", "hlop-qr", "hlop-fast"):
        units = setup.units if isinstance(setup.units, str) else cl.Schedule(setup.units[0], setup.units[1:])
        # Of OTTT's T calls a pass fewer are enough.
        share = {"bptt": 0.5, "ottt": 0.5 / run.steps, "dsr": 1.0}[run.rule]
        fast: dict[str, Any] = {"rows": 64, "share": share} if run.method == "hlop-fast" else {}
        # On PMNIST as the authors, but for QR where the name says so; elsewhere our defaults.
        paper = run.protocol == "pmnist"
        authors: dict[str, Any] = {"lr": "authors", "orthonormalise": run.method == "hlop-qr"}
        own = authors if paper else {"hebbian": cl.Hebbian(lr=setup.rate)}
        return cl.HLOP(net, units, layers=layers, review=review(run), seed=run.seed, **own, **fast)
    if run.method == "gpm":
        return cl.GPM(net, explained=setup.explained, layers=layers, seed=run.seed)
    if run.method == "ewc":
        return cl.EWC(net, strength=setup.strength, rule=rule(run))
    if run.method == "replay":
        return cl.Replay(net, capacity=setup.capacity, seed=run.seed)
    if run.method in ("plain", "sparse"):
        return cl.Plain(net)
    raise InputError(f"no method {run.method!r}; there are {METHODS}")


def course(run: Run, folder: Path, device: str) -> cl.Course:
    setup = SETUPS[run.protocol]
    return cl.Course(
        method(run, network(run).to(device)),
        protocol(run),
        partial(torch.optim.Adagrad, lr=0.01) if run.method == "sparse" else partial(torch.optim.SGD, lr=setup.lr),
        rule(run),
        epochs=setup.epochs,
        batch_size=setup.batch,
        seed=run.seed,
        folder=folder,
        keep_optimizer=run.method == "sparse",
    )

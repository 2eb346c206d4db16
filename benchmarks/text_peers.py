"""Speed of training on text against recurrent spiking networks of the peers, of equal size, in one run.

Tokens a second of a training step (forward, backward, AdamW) on random tokens: ours, and two recurrent LIF layers
between an embedding and a readout, of as many parameters, as snnTorch and SpikingJelly offer them: a loop over time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.language_models import make
from benchmarks.measure import Timing, alternate
from spikekit.models.astro_lm import preset

MakeLayer = Callable[[int], nn.Module]


class Loop(nn.Module):
    """Embedding, two recurrent layers stepped one token at a time, readout of the spikes."""

    def __init__(self, vocabulary: int, width: int, layer: MakeLayer, reset: Callable[[nn.Module], None]) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(nn.ModuleList((nn.Linear(width, width), layer(width))) for _ in range(2))
        self.readout = nn.Linear(width, vocabulary)
        # Not `reset`: SpikingJelly calls whatever has that name.
        self.to_rest = reset

    def forward(self, tokens: Tensor) -> Tensor:
        self.to_rest(self)
        spikes = []
        for x in self.embed(tokens).unbind(0):
            for linear, neuron in self.layers:  # type: ignore[misc]
                x = neuron(linear(x))
            spikes.append(x)
        return self.readout(torch.stack(spikes))


def snntorch() -> tuple[MakeLayer, Callable[[nn.Module], None]]:
    import snntorch as snn

    def reset(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, snn.RLeaky):
                module.reset_mem()

    return lambda n: snn.RLeaky(beta=0.9, linear_features=n, init_hidden=True), reset


def spikingjelly() -> tuple[MakeLayer, Callable[[nn.Module], None]]:
    from spikingjelly.activation_based import functional as jelly
    from spikingjelly.activation_based import layer, neuron

    def make_layer(n: int) -> nn.Module:
        return layer.LinearRecurrentContainer(neuron.LIFNode(tau=10.0, detach_reset=True), n, n)

    return make_layer, jelly.reset_net


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.text_peers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--preset", default="1m")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    config = preset(given.preset, 65)
    ours = make("astro", config)
    wanted = sum(p.numel() for p in ours.parameters())
    nets = {"spikekit": ours, "spikekit, frozen": make("frozen", config), "LSTM (torch)": make("lstm", config)}
    # In all, snnTorch's two layers have four square matrices, SpikingJelly's six; embedding and readout come on top.
    for name, peer, matrices in (("snnTorch", snntorch, 4), ("SpikingJelly", spikingjelly, 6)):
        try:
            nets[name] = Loop(65, int((wanted / matrices) ** 0.5) - 15, *peer())
        except ImportError:
            print(f"{name}: not installed")
    x, y = (torch.randint(65, (given.length, given.batch)) for _ in range(2))

    def step(net: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(p for p in net.parameters() if p.requires_grad)

        def call() -> None:
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(net(x).flatten(0, 1), y.flatten()).backward()
            optimizer.step()

        return call

    timings = alternate({name: step(net) for name, net in nets.items()}, given.repeats, 60.0)
    best = timings["spikekit"]
    for name, timing in timings.items():
        parameters = sum(p.numel() for p in nets[name].parameters())
        if isinstance(timing, Timing) and isinstance(best, Timing):
            speed = x.numel() / timing.cpu
            print(f"| {name} | {parameters:,} | {speed:,.0f} tokens/s | {best.cpu / timing.cpu:.2f} |")
        else:
            print(f"| {name} | {timing} |")


if __name__ == "__main__":
    main()

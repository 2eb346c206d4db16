"""Write the NIR files of the peers and what their networks did: run it in .venv-bench, from the root."""

from __future__ import annotations

from pathlib import Path

import nir
import norse.torch as norse
import numpy as np
import snntorch as snn
import torch
from norse.torch.utils.export_nir import to_nir
from snntorch.export_nir import export_to_nir
from torch import nn

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    for reset in ("subtract", "zero"):
        torch.manual_seed(0)
        # snnTorch's shape inference needs one value a neuron.
        first = snn.Leaky(torch.full((8,), 0.9), torch.ones(8), reset_mechanism=reset, init_hidden=True)
        last = snn.Leaky(torch.full((4,), 0.8), torch.full((4,), 0.5), reset_mechanism=reset, init_hidden=True)
        layers = [nn.Linear(6, 8), first, nn.Linear(8, 4), last]
        net = nn.Sequential(*layers)
        graph = export_to_nir(net, torch.rand(1, 6), ignore_dims=[0])
        x = 3 * torch.rand(30, 4, 6)
        for layer in (layers[1], layers[3]):
            layer.reset_mem()
        keep(f"snntorch_{reset}", graph, x, torch.stack([net(step) for step in x]))
    torch.manual_seed(0)
    box = norse.LIFBoxCell(many(norse.LIFBoxParameters(), 4))
    net = norse.SequentialState(nn.Linear(6, 8), norse.LIFCell(many(norse.LIFParameters(), 8)), nn.Linear(8, 4), box)
    x, state, steps = 9 * torch.rand(30, 4, 6), None, []
    with torch.no_grad():
        net[0].weight.abs_()
        net[2].weight.mul_(20).abs_()
    for step in x:
        y, state = net(step, state)
        steps.append(y)
    graph = to_nir(net, x[0])
    keep("norse", graph, x, torch.stack(steps))


def many(p, n):
    """One value a neuron: HDF5 cannot compress the single numbers of norse's defaults."""
    names = {"tau_syn_inv", "tau_mem_inv", "v_leak", "v_th", "v_reset"} & set(p._fields)
    return p._replace(**{name: torch.full((n,), float(getattr(p, name))) for name in names})


def keep(name: str, graph: nir.NIRGraph, x: torch.Tensor, y: torch.Tensor) -> None:
    nir.write(GOLDEN / f"{name}.nir", graph)
    np.savez_compressed(GOLDEN / f"{name}.npz", x=x.numpy(), y=y.detach().numpy())
    print(name, list(graph.nodes), graph.edges, f"{int(y.sum())} spikes of {y.numel()}")


if __name__ == "__main__":
    main()

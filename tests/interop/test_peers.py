"""What live networks of snnTorch and norse have in common, and files that sinabs writes, where they are installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import spikekit as sk
from spikekit.errors import ExportError, InputError
from tests.interop.peers import equal, load


@pytest.mark.parametrize("library", ["snntorch", "norse.torch"])
def test_hooks_and_what_is_no_layer_are_refused(library):
    peer = load(library)
    ours, theirs = sk.interop.from_snntorch, lambda: peer.Leaky(0.9)
    if library != "snntorch":
        ours, theirs = sk.interop.from_norse, peer.LIFBoxCell
    read, neuron = ours, theirs()
    neuron.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="hook"):
        read([nn.Linear(2, 2), neuron])
    for net in ("a name", nn.ModuleDict({"a": nn.Linear(2, 2)}), None, [1], (m for m in [nn.Linear(2, 2)])):
        with pytest.raises(ExportError, match="is not read"):
            read(net)
    pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)
    with pytest.raises(ExportError, match=r"prune\.remove"):
        read([pruned])


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("kind", ["LIF", "IAF"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_sinabs_file_fires_the_same_spikes(kind, reset):
    layers = load("sinabs.layers")
    pytest.importorskip("nir")
    from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike
    from sinabs.nir import to_nir

    torch.manual_seed(0)
    settings = {"spike_threshold": torch.ones(8), "batch_size": 1, "spike_fn": SingleSpike}
    settings["reset_fn"] = MembraneSubtract() if reset == "soft" else MembraneReset()
    first = {"tau_mem": torch.full((8,), 10.0)} if kind == "LIF" else {}
    theirs = nn.Sequential(nn.Linear(6, 8), getattr(layers, f"{kind}Squeeze")(**first, **settings))
    theirs[0].weight.abs_().mul_(6 if kind == "LIF" else 0.7)
    x = torch.rand(40, 6)
    y, graph = theirs(x), to_nir(theirs, x)
    ours = sk.interop.from_nir(graph, written_by="sinabs", reset=reset)
    equal(ours(x.unsqueeze(1)).squeeze(1), y)


@pytest.mark.parametrize(("name", "read"), [("snntorch", "from_snntorch"), ("norse", "from_norse")])
def test_a_missing_peer_is_named(monkeypatch, name, read):
    def missing(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr("spikekit.interop.peers.importlib.import_module", missing)
    from spikekit.interop import norse, snntorch

    reader = {"from_snntorch": snntorch.from_snntorch, "from_norse": norse.from_norse}[read]
    with pytest.raises(InputError, match=name):
        reader(nn.Linear(2, 2))

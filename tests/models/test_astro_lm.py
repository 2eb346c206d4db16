from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk
from spikekit.errors import InputError, StateError
from spikekit.language.generate import state_bytes
from spikekit.models import AstroLM, AstroLMConfig, SpikeLinear, preset
from spikekit.models.astro_lm import PRESETS
from spikekit.models.glia import Glia

SMALL = {"vocabulary": 11, "width": 24, "layers": 2}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return AstroLM(AstroLMConfig(**SMALL)).eval()


class Senses(torch.nn.Module):
    """An astrocyte that senses the same at every step."""

    temporal = True

    def __init__(self, glia, steps):
        super().__init__()
        self.glia, self.steps = glia, steps

    def forward(self, always):
        sensed = always.expand(self.steps, 1, -1)
        return self.glia(torch.zeros_like(sensed), sensed)


def tokens(steps=30, batch=3):
    return torch.randint(11, (steps, batch))


@given(st.lists(st.integers(1, 29), max_size=4, unique=True), st.sampled_from([1, 2, 3, 8]))
def test_in_pieces_and_whole_are_the_same_bits(net, cuts, batch):
    x = tokens(batch=batch)
    with torch.no_grad():
        whole, last = sk.run(net, x)
        state, pieces = None, []
        for piece in x.tensor_split(sorted(cuts)):
            logits, state = sk.run(net, piece, state)
            pieces.append(logits)
    assert torch.equal(torch.cat(pieces), whole)
    assert {name: {k: v.tolist() for k, v in part.items()} for name, part in state.items()} == {
        name: {k: v.tolist() for k, v in part.items()} for name, part in last.items()
    }


@pytest.mark.parametrize("astrocytes", [True, False, None])
def test_token_by_token_and_alone_are_the_same_bits(astrocytes):
    net = AstroLM(AstroLMConfig(**SMALL, astrocytes=astrocytes)).eval()
    x = tokens(40, 4)
    with torch.no_grad():
        whole, _ = sk.run(net, x)
        state, steps = None, []
        for token in x[:, 2:3].split(1):
            logits, state = sk.run(net, token, state)
            steps.append(logits)
    assert torch.equal(torch.cat(steps), whole[:, 2:3])


def test_no_token_looks_ahead(net):
    x = tokens()
    changed = x.clone()
    changed[20:] = (changed[20:] + 1) % 11
    assert torch.equal(net(x)[:20], net(changed)[:20])
    assert not torch.equal(net(x)[20:], net(changed)[20:])


def test_the_state_does_not_grow(net):
    sizes = set()
    state = None
    with torch.no_grad():
        for length in (1, 5, 40):
            _, state = sk.run(net, tokens(length, 2), state)
            sizes.add(state_bytes(state))
    assert len(sizes) == 1


@pytest.mark.slow
def test_the_state_after_100_000_tokens(net):
    state = None
    with torch.no_grad():
        _, state = sk.run(net, tokens(1, 1))
        first = state_bytes(state)
        for piece in tokens(100_000, 1).split(1000):
            logits, state = sk.run(net, piece, state)
    assert state_bytes(state) == first
    assert torch.isfinite(logits).all()
    assert all(part["c"].min() >= 0 and part["c"].max() <= 1 for part in state.values() if "c" in part)


def test_matrices_in_the_blocks_see_spikes_alone(net):
    seen = {}

    def look(name):
        return lambda layer, given, out: seen.update({name: given[0].unique().tolist()})

    handles = [
        layer.register_forward_hook(look(name)) for name, layer in net.named_modules() if isinstance(layer, SpikeLinear)
    ]
    net(tokens(60, 8))
    for handle in handles:
        handle.remove()
    assert len(seen) == 8
    assert all(set(values) <= {0.0, 1.0} for values in seen.values())
    matrices = {
        name for name, p in net.named_parameters() if p.ndim > 1 and "astrocyte" not in name and "shift" not in name
    }
    assert matrices == {f"{name}.weight" for name in seen} | {"embed.weight", "readout.weight"}


def test_without_astrocytes_it_is_the_network_of_plain_neurons():
    torch.manual_seed(0)
    frozen = AstroLM(AstroLMConfig(**SMALL, astrocytes=False)).eval()
    plain = AstroLM(AstroLMConfig(**SMALL, astrocytes=None)).eval()
    weights = frozen.state_dict()
    # What is sensed is the last third of a matrix, which the plain network lacks.
    cut = {
        name: weights[name][: len(value)] if value.ndim else weights[name] for name, value in plain.state_dict().items()
    }
    plain.load_state_dict(cut)
    x = tokens()
    assert torch.equal(frozen(x), plain(x))
    torch.manual_seed(0)
    learned = AstroLM(AstroLMConfig(**SMALL)).eval()
    assert {n: p.shape for n, p in learned.named_parameters()} == {n: p.shape for n, p in frozen.named_parameters()}
    assert {n for n, p in frozen.named_parameters() if not p.requires_grad} == {
        n for n, _ in frozen.named_parameters() if "glia" in n
    }
    assert not torch.equal(learned(x), plain(x))


def test_calcium_leaves_out_what_is_usual():
    """A constant input, which a slow trace would add up to many times its size, is no longer seen once it is known."""
    glia = Glia(6, (50.0, 500.0), 0.5)
    always = torch.linspace(-3, 3, 6)
    for _ in range(40):
        glia(torch.zeros(20, 4, 6), always + 0.1 * torch.randn(20, 4, 6))
    assert torch.allclose(glia.usual, always, atol=0.05)
    known = glia.eval().usual.clone()
    _, state = sk.run(Senses(glia, 200), always)
    assert state["glia.calcium"]["v"].abs().max() < 1
    assert torch.equal(glia.usual, known)


def test_no_token_looks_ahead_in_training():
    """What is usual is an average over whole pieces: of those before alone."""
    net = AstroLM(AstroLMConfig(**SMALL)).train()
    x = tokens()
    changed = x.clone()
    changed[20:] = (changed[20:] + 1) % 11
    twin = copy.deepcopy(net)
    for one in (net, twin):
        one(tokens(5))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(net(x)[:20], twin(changed)[:20])


def test_every_parameter_learns():
    net = AstroLM(AstroLMConfig(**SMALL))
    net(tokens(60, 8)).square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "vocabulary", "low", "high"),
    [("1m", 65, 0.9e6, 1.1e6), ("10m", 2048, 9e6, 11e6), ("100m", 50257, 90e6, 110e6), ("400m", 50257, 360e6, 440e6),
     ("1.5b", 50257, 1.4e9, 1.6e9)],
)  # fmt: skip
def test_sizes(name, vocabulary, low, high):
    """On the meta device, where no memory is taken: parameters, and bytes of state of one stream."""
    with torch.device("meta"):
        net = AstroLM(preset(name, vocabulary))
        _, state = sk.run(net, torch.zeros(3, 1, dtype=torch.int64))
    config = net.config
    assert low < sum(p.numel() for p in net.parameters()) < high
    assert {p.device.type for p in net.parameters()} == {"meta"}
    # Two shifts of three steps, five membranes (one four times as wide), the calcium signals, of four bytes.
    assert state_bytes(state) == 4 * config.layers * config.width * (2 * 3 + 4 + 4 + 1)
    assert set(PRESETS) == {"1m", "10m", "100m", "400m", "1.5b"}


def test_mistakes_are_named(net):
    for call, message in (
        (lambda: AstroLMConfig(0), "vocabulary must be a whole number above 0"),
        (lambda: AstroLMConfig(5, decays=(0.9, 0.1)), "decays must be two rising numbers"),
        (lambda: AstroLMConfig(5, timescales=(9.0, 3.0)), "timescales must be two rising numbers"),
        (lambda: AstroLMConfig(5, decays=(0.5,)), r"decays must be two rising numbers .* got \(0.5,\)"),
        (lambda: AstroLMConfig(5, decays=(0.1, "x")), "decays must be two rising numbers"),
        (lambda: AstroLMConfig(5, timescales=5), "timescales must be two rising numbers .* got 5"),
        (lambda: AstroLMConfig(5, timescales=(5.0, torch.inf)), "timescales must be two rising numbers"),
        (lambda: AstroLMConfig(5, strength="x"), "AstroLMConfig: strength must be a finite number, got 'x'"),
        (lambda: AstroLMConfig(5, strength=torch.nan), "AstroLMConfig: strength must be a finite number"),
        (lambda: Glia(4, (9.0, 3.0), 0.5), "Glia: timescales must be two rising numbers"),
        (lambda: Glia(4, (0.0, 3.0), 0.5), "Glia: timescales must be two rising numbers"),
        (lambda: Glia(4, (3.0, 9.0), torch.nan), "Glia: strength must be a finite number"),
        (lambda: preset("2m", 5), "unknown preset '2m'; choose one of 1m, 10m"),
        (lambda: net(torch.rand(3, 2)), r"int64 \[T, B\], got torch.float32"),
        (lambda: net(tokens(0)), "no tokens"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    _, state = sk.run(net, tokens(batch=2))
    with pytest.raises(StateError, match="TokenShift"):
        sk.run(net, tokens(batch=3), state)


def test_a_strength_may_be_whole():
    assert AstroLM(AstroLMConfig(**SMALL, strength=1)).blocks[0].glia.gain.tolist() == [1.0] * 24

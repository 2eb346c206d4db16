"""Astrocytes, a part of `sk.LIF`; the equations are in `spikekit.ops.astrocyte.reference`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons.parameters import add_parameter, check_assignment, read_parameter
from spikekit.ops.astrocyte import ACTS_ON, AstrocyteRule, astrocyte_lif, modulation
from spikekit.ops.lif import LIFRule, state_dtype

# The share of the neurons' own spikes in what is sensed.
SENSES = {"post": 1.0, "pre": 0.0, "both": 0.5}
_PARAMETERS = ("timescales", "weight", "bias", "strength")
# What is settled when it is made: the shapes of its parameters and its rule follow from it.
_SETTLED = ("domains", "scales", "acts_on", "senses", "rule")


class Astrocyte(nn.Module):
    """Astrocytes over a layer of neurons, a part of `sk.LIF(..., astrocyte=sk.Astrocyte(8))`.

    The C channels (axis 2 of the drive) are cut into `domains` groups of neighbours, each with an astrocyte. It has one
    calcium signal a time scale τ, a leaky mean of the spikes that it senses, between 0 and 1:

        c[t] = λ·c[t-1] + (1 - λ)·(mean of the spikes in the domain),  λ = exp(-1/τ)

    and modulates its neurons by what it held a step before, z = bias + Σ weight·c[t-1], g = 1 + strength·z/(1 + |z|):

    acts_on: "gain": the neurons integrate g·x. "threshold": they fire above threshold·(2 - g), which stays above 0;
        what soft reset subtracts does not move. "plasticity": the forward pass is that of the plain neuron, and the
        gradient dL/dx[t] that leaves the neuron is multiplied by g[t]. Those of the weights in front and of all layers
        before are made of it; those of beta and threshold, and the path through the membrane, are not touched.
    senses: "post": the spikes of its own neurons. "pre": those that arrive, [T, B, C', ...] with C' a multiple of
        `domains`, which `sk.TripartiteSynapse` hands over. "both": the mean of the two means.
    timescales: K numbers of steps, from 0.1 to 1e6, or a tensor [domains, K]. strength: between -1 and 1, both
        excluded: g stays between 0 and 2, and at 0 the neuron is the plain one, bit for bit. weight, bias: any numbers.
        strength and bias may be tensors [domains], weight one [domains, K].
    learn: names among "strength", "timescales", "weight" and "bias". None: all of them; with "plasticity" none, since
        nothing that is computed forward depends on them.

    The state of the neuron is {"v": [B, C, ...], "c": [B, domains, K]}, its size the same however long the sequence;
    `sk.record` offers "calcium" [T, B, domains, K] and "modulation", g [T, B, domains], besides, "presynaptic" where
    that is sensed. z/(1 + |z|) stands where a tanh might: it is rounded alike by every processor, so that all paths
    fire the same spikes. Calcium is added up step by step, not by a tree: a tree rounds otherwise, and a sequence in
    pieces is to give the numbers of the whole. With senses "pre" and "both" it does so where the presynaptic spikes are
    0 or 1: their sum over a domain is then exact, while torch may add graded ones in another order when the number of
    steps differs; below 0 or above 1 they take calcium out of 0..1. Raises InputError for arguments outside these
    ranges, for another device, and for a drive that the domains do not divide.

    `spikekit.models` has another kind, `Glia`, between the layers of the language model: one astrocyte a neuron, which
    senses a learned weighted sum of the presynaptic spikes, and whose level goes through a norm before it scales the
    drive and adds to it. This one needs no weights, senses means and keeps g within bounds; it fits any network.

    After the abstract of Shen et al. 2023, arXiv 2312.07625, and not after its equations: these are ours,
    from published biology. Calcium of astrocytes rises with the activity of synapses, and what they release in turn
    changes these, "tripartite", synapses: reviewed by Araque et al. 1999, Trends in Neurosciences 22:208, and by
    Bazargani and Attwell 2016, Nature Neuroscience 19:182. More transmitter is then released at synapses of the
    hippocampus: Jourdain et al. 2007, Nature Neuroscience 10, doi 10.1038/nn1849; Perea and Araque 2007, Science
    317:1083.
    """

    carries: ClassVar[tuple[str, ...]] = ("c",)
    records: ClassVar[tuple[str, ...]] = ("calcium", "modulation")

    def __init__(
        self,
        domains: int = 8,
        timescales: Sequence[float] | Tensor = (20.0, 200.0, 1000.0),
        acts_on: str = "gain",
        senses: str = "post",
        strength: float | Tensor = 0.1,
        learn: Collection[str] | None = None,
        *,
        weight: float | Tensor = 1.0,
        bias: float | Tensor = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(domains, bool) or not isinstance(domains, int) or domains < 1:
            raise InputError(f"Astrocyte: domains must be a whole number of at least 1, got {domains!r}")
        if not isinstance(acts_on, str) or acts_on not in ACTS_ON:
            raise InputError(f"Astrocyte: unknown acts_on {acts_on!r}; choose {', '.join(map(repr, ACTS_ON))}")
        if not isinstance(senses, str) or senses not in SENSES:
            raise InputError(f"Astrocyte: unknown senses {senses!r}; choose {', '.join(map(repr, SENSES))}")
        forward = acts_on != "plasticity"
        learn = (_PARAMETERS if forward else ()) if learn is None else (learn,) if isinstance(learn, str) else learn
        if not isinstance(learn, Collection) or (unknown := [name for name in learn if name not in _PARAMETERS]):
            found = unknown if isinstance(learn, Collection) else repr(learn)
            raise InputError(f"Astrocyte: cannot learn {found}; choose {', '.join(map(repr, _PARAMETERS))}")
        if learn and not forward:
            raise InputError(
                "Astrocyte: with acts_on='plasticity' no output depends on its parameters, so they have no gradient; "
                "give learn=()"
            )
        self.domains, self.acts_on, self.senses = domains, acts_on, senses
        self.rule = AstrocyteRule(acts_on, SENSES[senses])
        if senses != "post":
            self.records = (*type(self).records, "presynaptic")  # type: ignore[misc]
        times = _times(timescales)
        if times.ndim not in (1, 2) or times.shape[-1] == 0:
            raise InputError(f"Astrocyte: timescales must be K numbers or a tensor [domains, K], got {timescales!r}")
        self.scales = times.shape[-1]
        shapes = {"timescales": (domains, self.scales), "weight": (domains, self.scales)}
        values = {"timescales": times, "weight": weight, "bias": bias, "strength": strength}
        for name, value in values.items():
            shape = shapes.get(name, (domains,))
            add_parameter(self, name, _filled(name, value, shape), name in learn)

    def __getattr__(self, name: str) -> Any:
        # A learnable parameter is stored as <name>_raw: reading astrocyte.strength gives its value either way.
        if f"{name}_raw" in self.__dict__.get("_parameters", {}):
            return read_parameter(self, name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        check_assignment(self, name)
        if name in _SETTLED and name in self.__dict__:
            raise InputError(f"Astrocyte: {name} cannot be assigned; make a new one, sk.Astrocyte(...)")
        super().__setattr__(name, value)

    def state_shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        """The shapes of its part of the neuron's state, for a drive [T, B, ...]."""
        return {"c": (x.shape[1], self.domains, self.scales)}

    def integrate(
        self,
        x: Tensor,
        state: dict[str, Tensor] | None,
        keep: Collection[str],
        parameters: Sequence[Tensor],
        rule: LIFRule,
        presynaptic: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """What `sk.LIF.integrate` gives; parameters: beta, threshold and quantum as the drive needs them."""
        self._check_drive(x)
        dtype = state_dtype(x.dtype)
        v0, c0 = (None, None) if state is None else (state["v"], state["c"])
        beta, threshold, quantum = parameters
        sensed = self._sense(x, presynaptic, dtype)
        times, weight, bias, strength = (self._read(name, x).to(dtype) for name in _PARAMETERS)
        decay = torch.exp(-1 / times)
        wanted = bool({"membrane", *self.records} & set(keep))
        spikes, membranes, calcium, v, c = astrocyte_lif(
            x,
            v0,
            c0,
            sensed,
            beta,
            threshold,
            quantum,
            decay,
            weight,
            bias,
            strength,
            rule,
            self.rule,
            keep_traces=wanted,
        )
        traces = {"drive": x, "spikes": spikes}
        if membranes is not None and calcium is not None:
            traces |= {"membrane": membranes, "calcium": calcium}
        if presynaptic is not None:
            traces["presynaptic"] = presynaptic
        if "modulation" in keep and calcium is not None:
            start = torch.zeros_like(calcium[:1]) if c0 is None else c0.unsqueeze(0)
            traces["modulation"] = modulation(torch.cat((start, calcium[:-1])), weight, bias, strength)
        return spikes, {"v": v, "c": c}, {what: traces[what] for what in keep}

    def forward(self, x: Tensor) -> Tensor:
        """Not a layer: raises InputError."""
        raise InputError(f"{self} is a part of a neuron, not a layer: use sk.LIF(..., astrocyte=sk.Astrocyte(...))")

    def _read(self, name: str, x: Tensor) -> Tensor:
        """A parameter, where x is: the kernels would read the memory of another device."""
        value = read_parameter(self, name)
        if value.device != x.device:
            raise InputError(
                f"Astrocyte: its {name} is on {value.device}, the drive on {x.device}; move the network, "
                f"net.to({str(x.device)!r})"
            )
        return value

    def _check_drive(self, x: Tensor) -> None:
        if x.ndim < 3 or x.shape[2] % self.domains or x.numel() == 0:
            many = x.ndim > 2 and x.shape[2] > 0
            found = (
                "no pixels" if many and x.shape[2] % self.domains == 0 else f"{x.shape[2] if many else 'no'} channels"
            )
            raise InputError(
                f"{self}: its domains must divide the channels (axis 2), and the drive {tuple(x.shape)} has {found}; "
                "choose another number of domains"
            )

    def _sense(self, x: Tensor, presynaptic: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The mean of the presynaptic spikes of each domain, [T, B, domains]."""
        if (presynaptic is None) != (self.senses == "post"):
            raise InputError(
                f"{self}: it senses no presynaptic spikes; give senses='pre' or 'both'"
                if self.senses == "post"
                else f"{self}: it needs the presynaptic spikes: call lif(x, presynaptic=s), or make the layer in front "
                "and the neuron one sk.TripartiteSynapse(layer, lif)"
            )
        if presynaptic is None:
            return None
        if not isinstance(presynaptic, Tensor):
            raise InputError(f"{self}: the presynaptic spikes must be a tensor, got {type(presynaptic).__name__}")
        if presynaptic.device != x.device:
            raise InputError(
                f"{self}: the presynaptic spikes are on {presynaptic.device}, the drive on {x.device}; move them, "
                f"presynaptic.to({str(x.device)!r})"
            )
        shape = tuple(presynaptic.shape)
        if len(shape) < 3 or shape[:2] != x.shape[:2] or shape[2] % self.domains or presynaptic[0].numel() == 0:
            raise InputError(
                f"{self}: the presynaptic spikes must be [T, B, C, ...] with T, B = {tuple(x.shape[:2])} and C "
                f"(axis 2) a multiple of {self.domains}, got {shape}"
            )
        rows = presynaptic.to(dtype).reshape(*shape[:2], self.domains, -1)
        return rows.sum(-1) * (1 / rows.shape[-1])

    def extra_repr(self) -> str:
        """All settings; a parameter that differs between domains is shown by its range."""
        shown = [str(self.domains)]
        for name in ("timescales", "strength", "weight", "bias"):
            shown.append(f"{name}={_shown(read_parameter(self, name).detach())}")
        shown += [f"acts_on={self.acts_on!r}", f"senses={self.senses!r}"]
        learned = tuple(name for name in _PARAMETERS if f"{name}_raw" in self._parameters)
        return ", ".join([*shown, f"learn={learned!r}"])


def _times(timescales: Sequence[float] | Tensor) -> Tensor:
    if isinstance(timescales, Tensor):
        return timescales
    listed = isinstance(timescales, Sequence) and not isinstance(timescales, str)
    if not listed or any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in timescales):
        raise InputError(
            f"Astrocyte: timescales must be K numbers, as in timescales=(20.0, 200.0), or a tensor [domains, K], got "
            f"{timescales!r}"
        )
    return torch.tensor(list(timescales), dtype=torch.float32)


def _filled(name: str, value: float | Tensor, shape: tuple[int, ...]) -> float | Tensor:
    """`value` for all domains; what is no number is left to `add_parameter`, which refuses it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        return value
    tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float32)
    try:
        return tensor.expand(shape).contiguous()
    except RuntimeError:
        raise InputError(
            f"Astrocyte: {name} must be one number or of the shape {shape}, got {tuple(tensor.shape)}"
        ) from None


def _shown(value: Tensor) -> str:
    rows = value.reshape(len(value), -1)
    if bool((rows == rows[:1]).all()):
        numbers = [f"{number:.4g}" for number in rows[0].tolist()]
        return numbers[0] if value.ndim == 1 else f"({', '.join(numbers)})"
    return f"{value.min().item():.4g}..{value.max().item():.4g}"

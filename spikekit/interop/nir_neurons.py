"""One neuron node of NIR as one neuron of ours, by NIR's equations or by what its writer meant by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikekit.errors import ExportError
from spikekit.interop.assemble import Chain

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """How a file is read: seconds a step, its writer, the reset it was trained with, the dtype of what is made."""

    dt: float
    written_by: str | None
    reset: str | None
    dtype: torch.dtype

    def tensor(self, values: Floats) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self.dtype)


def add_neuron(name: str, node: Any, chain: Chain, reading: Reading) -> None:
    """Append the neuron of an IF, LIF, CubaLIF, I, LI or CubaLI node. Raises ExportError with its name."""
    kind = type(node).__name__
    where, notes = f"node {name!r} ({kind})", _notes(node)
    if notes:
        check_notes(where, node, notes)
    beta, gain = _membrane(where, node, reading)
    if notes:
        chain.drive(where, reading.tensor(gain))
        if kind in ("I", "LI"):
            chain.integrate(where, reading.tensor(notes["beta"]))
        else:
            _ours(where, _array(node.v_threshold), chain, reading, notes)
        return
    leak = _array(node.v_leak) if hasattr(node, "v_leak") else np.zeros_like(beta)
    alpha = None
    if kind.startswith("Cuba"):
        # norse lets the input jump into the current, where NIR's equation scales it by dt / tau_syn.
        tau = _tau(node.tau_syn, reading)
        alpha = _decay(where, "tau_syn", tau, reading)
        gain = gain * _array(node.w_in) * (1 if reading.written_by == "norse" else reading.dt / tau)
    _check_writer(where, node, gain, reading)
    chain.drive(where, reading.tensor(gain))
    if kind in ("I", "LI", "CubaLI"):
        if leak.any():
            raise ExportError(f"{where} leaks to {leak.flat[0]:.4g}; our LI leaks to 0")
        if alpha is not None:
            chain.integrate(where, reading.tensor(alpha))
        chain.integrate(where, reading.tensor(beta))
        return
    level, floor = _array(node.v_threshold), _array(node.v_reset)
    reset = _reset(where, reading)
    if reset == "hard" and (floor != leak).any():
        raise ExportError(f"{where} resets to {floor.flat[0]:.4g} and rests at {leak.flat[0]:.4g}; ours resets to rest")
    if reset == "hard" and kind == "CubaLIF" and reading.written_by == "snntorch":
        raise ExportError(
            f"{where} with reset_mechanism='zero' drops the input of the step after each spike in snnTorch, unless "
            "reset_delay=False, which a file does not tell; give the network itself to sk.interop.from_snntorch"
        )
    beta, level, leak = np.broadcast_arrays(beta, level, leak)
    quantum = level
    if reset == "soft" and reading.written_by == "snntorch":
        if (beta == 0).any():
            raise ExportError(f"{where} has beta = 0, where snnTorch's late reset has no counterpart")
        # Its reset comes a step late, after the decay.
        quantum = level / beta
    chain.fire(
        where,
        beta=reading.tensor(beta),
        threshold=reading.tensor(level - leak),
        reset=reset,
        quantum=reading.tensor(quantum) if reset == "soft" else None,
        inclusive=reading.written_by == "sinabs",
        alpha=None if alpha is None else reading.tensor(alpha),
    )


def soft_reset(name: str, membrane: Any, threshold: Any, feedback: Any | None, chain: Chain, reading: Reading) -> None:
    """Append the neuron of an LI or I node, its Threshold, and the Scale that feeds spikes back, if there is one."""
    where = f"node {name!r} (Threshold)"
    if notes := _notes(membrane):
        check_notes(where, membrane, notes)
    beta, gain = _membrane(where, membrane, reading)
    chain.drive(where, reading.tensor(gain))
    scale = None if feedback is None else feedback.scale
    if notes := _notes(threshold):
        check_notes(where, membrane, notes, graph=True)
        check_feedback(where, scale, notes)
        _ours(where, _array(threshold.threshold), chain, reading, notes)
        return
    if (_array(getattr(membrane, "v_leak", 0.0)) != 0).any():
        raise ExportError(f"{where} follows a membrane that leaks to another value than 0, which is not read")
    level, quantum = _array(threshold.threshold), None
    if scale is not None:
        if (beta == 0).any():
            raise ExportError(f"{where} is reset a step late, and its beta is 0, which has no counterpart")
        quantum = -_array(scale) * gain / beta
    chain.fire(
        where,
        beta=reading.tensor(beta),
        threshold=reading.tensor(level),
        reset="none" if quantum is None else "soft",
        quantum=None if quantum is None else reading.tensor(quantum),
    )


def _ours(where: str, level: Floats, chain: Chain, reading: Reading, notes: dict[str, Any]) -> None:
    if not np.allclose(level, notes["threshold"], rtol=1e-6):
        raise ExportError(_changed(where, "threshold"))
    quantum = notes.get("quantum")
    chain.fire(
        where,
        beta=reading.tensor(notes["beta"]),
        threshold=reading.tensor(notes["threshold"]),
        reset=notes["reset"],
        quantum=None if quantum is None or np.array_equal(quantum, notes["threshold"]) else reading.tensor(quantum),
        inclusive=bool(notes["inclusive"]),
    )


def check_notes(where: str, node: Any, notes: dict[str, Any], *, graph: bool = False) -> None:
    """Raise ExportError for metadata that is not all there, or that says another neuron than the node beside it."""
    fires = graph or hasattr(node, "v_threshold")
    wanted = {"dt", "beta"} | ({"reset", "threshold", "inclusive"} if fires else set())
    if notes.get("reset") == "soft":
        wanted.add("quantum")
    if notes["spikekit"] != "1" or (missing := sorted(wanted - notes.keys())):
        what = f"lacks {missing}" if notes["spikekit"] == "1" else f"is of version {notes['spikekit']!r}"
        raise ExportError(f"{where}: its metadata {what}; write the file again with this version of spikekit")
    if notes.get("reset", "none") not in ("soft", "hard", "none") or notes.get("inclusive", 0) not in (0, 1):
        raise ExportError(f"{where}: its metadata says {notes}, which is no neuron of ours")
    beta, dt = _array(notes["beta"]), float(notes["dt"])
    for what, values in ((key, _array(notes[key])) for key in ("beta", "threshold", "quantum") if key in notes):
        if not np.isfinite(values).all():
            raise ExportError(f"{where}: its metadata says {what} = {values}; the file is damaged")
    if hasattr(node, "tau") and not np.allclose(_array(node.tau) * (1 - beta), dt, rtol=1e-5):
        raise ExportError(_changed(where, "tau"))
    gain = _array(node.r) * dt / (_array(node.tau) if hasattr(node, "tau") else 1)
    if not np.allclose(gain, 1, rtol=1e-5):
        raise ExportError(_changed(where, "input resistance"))
    for key in ("v_leak", "v_reset"):
        if _array(getattr(node, key, 0.0)).any():
            raise ExportError(_changed(where, key))


def check_feedback(where: str, scale: Any | None, notes: dict[str, Any]) -> None:
    """Raise ExportError where the feedback of a graph of ours is not the reset of its metadata."""
    soft = notes["reset"] == "soft"
    if soft != (scale is not None) or (
        soft and not np.allclose(_array(scale), -_array(notes["beta"]) * _array(notes["quantum"]), rtol=1e-5)
    ):
        raise ExportError(_changed(where, "feedback"))


def _changed(where: str, what: str) -> str:
    return f"{where} has another {what} than its metadata says; who changes one must change both, or drop the metadata"


def _notes(node: Any) -> dict[str, Any]:
    """The metadata that `to_nir` wrote, or nothing; HDF5 gives text as bytes."""
    notes = {key: value.decode() if isinstance(value, bytes) else value for key, value in node.metadata.items()}
    return notes if "spikekit" in notes else {}


def _reset(where: str, reading: Reading) -> str:
    if reading.reset is None:
        raise ExportError(
            f"{where}: NIR knows reset to a value alone, and snnTorch, norse and sinabs write every reset as that one; "
            "say what the network was trained with: reset='soft' (subtract), 'hard' (zero) or 'none'. snnTorch and "
            "sinabs subtract by default, norse resets to zero; written_by= names the writer. Of sinabs, networks with "
            "spike_fn=SingleSpike are read; its default, MultiSpike, fires several spikes a step, which no file tells"
        )
    return reading.reset


def _membrane(where: str, node: Any, reading: Reading) -> tuple[Floats, Floats]:
    """Decay and input gain a step."""
    r = _array(node.r)
    dt = float(_notes(node).get("dt", reading.dt))
    if type(node).__name__ in ("I", "IF"):
        # norse and sinabs add their input once a step, whatever a step lasts.
        return np.ones_like(r), r if reading.written_by in ("norse", "sinabs") else r * dt
    raw = node.tau_mem if hasattr(node, "tau_mem") else node.tau
    if notes := _notes(node):
        return _array(notes["beta"]), r * dt / _array(raw)
    tau = _tau(raw, reading)
    if reading.written_by == "sinabs":
        if not (tau > 0).all():
            raise ExportError(f"{where}: tau = {tau.min():.4g} steps, and time constants are above 0")
        beta = np.exp(-1 / tau)
        # norm_input, which no file tells, is True for LIF and False for ExpLeak unless said otherwise.
        return beta, 1 - beta if type(node).__name__ == "LIF" else np.ones_like(beta)
    beta = _decay(where, "tau", tau, reading)
    with np.errstate(invalid="ignore"):
        gain = np.where(np.isinf(tau), 1.0, r * reading.dt / tau)
    return beta, gain


def _tau(tau: Any, reading: Reading) -> Floats:
    # norse 1.1.0 writes tau times its dt.
    return _array(tau) / (reading.dt if reading.written_by == "norse" else 1.0)


def _check_writer(where: str, node: Any, gain: Floats, reading: Reading) -> None:
    """Raise ExportError for constants that the writer does not write: another wrote the file, or its dt is another."""
    writer = reading.written_by
    if writer == "snntorch" and not np.allclose(gain, 1, rtol=1e-4):
        raise ExportError(
            f"{where} scales its input by {gain.flat[0]:.4g}, and snnTorch writes neurons that scale it by 1; another "
            "library wrote the file, or dt is not snnTorch's 1e-4"
        )
    if writer in ("norse", "sinabs") and ((_array(node.r) != 1).any() or (_array(getattr(node, "w_in", 1)) != 1).any()):
        raise ExportError(f"{where} has r = {_array(node.r).flat[0]:.4g}, and {writer} writes 1; who wrote the file?")


def _decay(where: str, what: str, tau: Floats, reading: Reading) -> Floats:
    if reading.written_by == "snntorch":
        # A learned beta above 1 makes tau negative; snnTorch clamps it to 1 where it is used.
        tau = np.where(tau < 0, np.inf, tau)
    # The constants of most writers are float32.
    if not (tau >= reading.dt * (1 - 1e-6)).all():
        raise ExportError(
            f"{where}: {what} = {tau.min():.4g} s is shorter than a step of {reading.dt:.4g} s. Give the file's dt; "
            "norse writes its time constants times dt, which written_by='norse' undoes"
        )
    return np.clip(1 - reading.dt / tau, 0, 1)


def _array(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)

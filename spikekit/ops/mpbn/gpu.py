"""The MPBN operation by the Triton kernels of triton_kernels.py, for layers whose neurons are normalised one by one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from spikekit.ops.gpu import Kernels, arguments, curve, describe, halves, knows, on_device_of
from spikekit.ops.layout import arranged_as_new
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.mpbn.layer import Layer
from spikekit.ops.mpbn.reference import Outcome, mpbn_reference
from spikekit.surrogate import ATan

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Neurons of a program: 32 bytes of memory, the least that a GPU reads.
_BLOCK = 8
# The largest batch: a program with more samples of each would not stay in registers.
_ROWS = 256


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key, of a shape that `fits`."""
    return knows(surrogate) and dtype in _FLOATS and KERNELS.trusted(state_dtype(dtype))


# See spikekit.ops.lif.triton_operator.
supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


def fits(shape: Sequence[int], weight: Sequence[int]) -> bool:
    """Whether they serve a drive [T, B, C, ...] of that shape: a weight for each neuron, and no batch over 256."""
    return prod(weight) == prod(shape[2:]) and shape[1] <= _ROWS


def _rows(batch: int) -> int:
    return 1 << (batch - 1).bit_length()


def forward(x: Tensor, v0: Tensor | None, layer: Layer, keep: bool) -> Outcome:
    """The whole sequence; membranes are empty unless `keep`."""
    dtype = state_dtype(x.dtype)
    drive = x.contiguous()
    spikes, v = torch.empty_like(drive), torch.empty_like(drive[0], dtype=dtype)
    membranes = torch.empty_like(drive, dtype=dtype) if keep else v.new_empty(0)
    means, variances = (v.new_empty((len(x), *layer.weight.shape) if layer.training else (0,)) for _ in range(2))
    running = [v.new_empty(layer.weight.shape if layer.training else (0,)) for _ in range(2)]
    described = [describe(value, drive[0, 0]) for value in layer.neuron]
    neurons, batch = drive[0, 0].numel(), drive.shape[1]
    rows = _rows(batch)
    with on_device_of(x):
        KERNELS.module.forward_kernel[(-(-neurons // _BLOCK),)](
            drive,
            None if v0 is None else v0.contiguous(),
            *arguments(described),
            *(value.contiguous() for value in layer.norm),
            spikes,
            membranes if keep else None,
            v,
            means,
            variances,
            *running,
            len(drive),
            batch,
            neurons,
            *halves(layer.momentum),
            *halves(layer.eps),
            *(parameter.kind for parameter in described),
            TRAINING=layer.training,
            RESET=layer.reset,
            INCLUSIVE=layer.inclusive,
            ROWS=rows,
            BLOCK=_BLOCK,
            num_warps=_warps(rows),
            enable_fp_fusion=False,
        )
    new = [arranged_as_new(spikes, x), arranged_as_new(membranes, x) if keep else membranes]
    return Outcome(new[0], new[1], arranged_as_new(v, x[0]), means, variances, *running)


def backward(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    layer: Layer,
    learn: bool,
) -> list[Tensor]:
    """Gradients of x and v0 in the state's dtype, of weight and bias in float64, and with `learn` those of beta,
    threshold and quantum for every neuron in float64.
    """
    u = membranes.contiguous()
    g_x, g_v0 = torch.empty_like(u), torch.empty_like(u[0])
    affine = [torch.empty_like(layer.weight, dtype=torch.float64).contiguous() for _ in range(2)]
    sums = [torch.empty_like(u[0, 0], dtype=torch.float64) for _ in range(3)] if learn else []
    described = [describe(value, u[0, 0]) for value in layer.neuron]
    shape, constants = curve(layer.surrogate, layer.numbers)
    neurons, batch = u[0, 0].numel(), u.shape[1]
    rows = _rows(batch)
    with on_device_of(u):
        KERNELS.module.backward_kernel[(-(-neurons // _BLOCK),)](
            *(None if value is None else value.contiguous() for value in (grad_spikes, grad_membranes, grad_v)),
            u,
            None if v0 is None else v0.contiguous(),
            *arguments(described),
            *(value.contiguous() for value in layer.norm),
            g_x,
            g_v0,
            *affine,
            *(sums or (None, None, None)),
            len(u),
            batch,
            neurons,
            *halves(layer.eps),
            *constants,
            *(parameter.kind for parameter in described),
            TRAINING=layer.training,
            RESET=layer.reset,
            INCLUSIVE=layer.inclusive,
            DETACH=layer.detach_reset or layer.reset == "none",
            CURVE=shape,
            ROWS=rows,
            BLOCK=_BLOCK,
            num_warps=_warps(rows),
            enable_fp_fusion=False,
        )
    return [arranged_as_new(g_x, membranes), arranged_as_new(g_v0, membranes[0]), *affine, *sums]


def _warps(rows: int) -> int:
    """Four values of a tile a thread."""
    return max(1, rows * _BLOCK // 128)


def _self_test(device: str, dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    rule = LIFRule("soft", False, False, ATan())
    x, upstream = (torch.randn(2, 5, 6, 19, generator=generator, dtype=dtype) + 0.3).to(device)
    values = [torch.full((), value, dtype=dtype, device=device) for value in (0.9, 0.3, 0.7)]
    values += [(torch.rand(19, generator=generator, dtype=dtype) + 0.5).to(device) for _ in range(2)]
    at_rest = (torch.zeros_like(values[3]), torch.ones_like(values[3]))
    leaves = [leaf.clone().requires_grad_() for leaf in (x, *values)]
    y, beta, threshold, quantum, weight, bias = leaves
    with torch.enable_grad():
        expected = mpbn_reference(y, None, beta, threshold, quantum, weight, bias, *at_rest, True, 0.1, 1e-5, rule)
        gradients = torch.autograd.grad((expected.spikes * upstream).sum() + expected.v.sum(), leaves)
    choices = (True, 0.1, 1e-5, "soft", False, False, *ATan().encode(), False)
    found = forward(x, None, Layer.of(*values, *at_rest, *choices), True)
    if not torch.equal(found.spikes, expected.spikes):
        raise ArithmeticError("other spikes than the reference")
    if not all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(found[1:], expected[1:], strict=True)):
        raise ArithmeticError("other states or statistics than the reference")
    layer, end = Layer.of(*values, found.means, found.variances, *choices), torch.ones_like(found.v)
    g_x, _, g_weight, g_bias, *sums = backward(upstream, None, end, found.membranes, None, layer, True)
    ours = (g_x, *(total.sum() for total in sums), g_weight, g_bias)
    for name, value, wanted in zip(
        ("x", "beta", "threshold", "quantum", "weight", "bias"), ours, gradients, strict=True
    ):
        if not torch.allclose(value.to(dtype), wanted, rtol=1e-3, atol=1e-3):
            raise ArithmeticError(f"other gradient of {name} than the reference")


KERNELS = Kernels("spikekit.ops.mpbn.triton_kernels", _self_test)

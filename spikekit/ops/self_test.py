"""What the self-tests of the kernels have in common: a few neurons, held against the reference that defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


def hold(
    dtype: torch.dtype,
    cases: Sequence[object],
    values: Mapping[str, float | Tensor],
    reference: Callable[..., Sequence[Tensor]],
    forward: Callable[..., Sequence[Tensor]],
    backward: Callable[..., Sequence[Tensor]],
    ends: Sequence[int],
    shape: Sequence[int] = (7, 37),
    device: str = "cpu",
) -> None:
    """Hold the kernels of a neuron against its reference. Raises ArithmeticError, naming the case, where they differ.

    reference(case, x, *parameters) and forward(case, x, *parameters), on a drive [T, ..., N] of `shape` and parameters,
    the tensors among the `values` and [N] around the numbers, agree in every output, bit for bit; the first is the
    spikes. backward(case, upstream, end, outputs, x, *parameters) gives the gradients of x and of the parameters where
    that of the spikes is `upstream`, and those of the last states, the outputs number `ends`, are ones as in `end`.
    """
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, *shape, generator=generator, dtype=dtype).to(device).unbind(0)
    end = torch.ones_like(x[0])
    # No two neurons alike: a kernel that reads the wrong one would pass.
    spread = torch.linspace(0.8, 1.1, shape[-1], dtype=dtype)
    given = [value.to(dtype) if isinstance(value, Tensor) else value * spread for value in values.values()]
    parameters = [value.to(device) for value in given]
    for case in cases:
        leaves = [leaf.clone().requires_grad_() for leaf in (x, *parameters)]
        with torch.enable_grad():
            expected = reference(case, *leaves)
            loss = (expected[0] * upstream).sum() + sum(expected[index].sum() for index in ends)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        outputs = forward(case, x, *parameters)
        if not all(torch.equal(one, other) for one, other in zip(outputs, expected, strict=True)):
            raise ArithmeticError(f"other numbers than the reference, {case}")
        found = backward(case, upstream, end, outputs, x, *parameters)
        for name, value, wanted in zip(("x", *values), found, gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, {case}")

"""What the self-tests of the kernels have in common: a few neurons, held against the reference that defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


def hold(
    dtype: torch.dtype,
    cases: Sequence[object],
    values: Mapping[str, float],
    reference: Callable[..., Sequence[Tensor]],
    forward: Callable[..., Sequence[Tensor]],
    backward: Callable[..., Sequence[Tensor]],
    ends: Sequence[int],
) -> None:
    """Hold the kernels of a neuron against its reference. Raises ArithmeticError, naming the case, where they differ.

    reference(case, x, *parameters) and forward(case, x, *parameters), on a drive [7, 37] and parameters [37] around
    the `values`, agree in every output, bit for bit; the first is the spikes. backward(case, upstream, end, outputs,
    parameters) gives the gradients of x and of the parameters where that of the spikes is `upstream`, and that of the
    last states, the outputs number `ends`, is `end`.
    """
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 7, 37, generator=generator, dtype=dtype).unbind(0)
    end = torch.ones_like(x[0])
    # No two neurons alike: a kernel that reads the wrong one would pass.
    parameters = [value * torch.linspace(0.8, 1.1, 37, dtype=dtype) for value in values.values()]
    for case in cases:
        leaves = [leaf.clone().requires_grad_() for leaf in (x, *parameters)]
        with torch.enable_grad():
            expected = reference(case, *leaves)
            loss = (expected[0] * upstream).sum() + sum((expected[index] * end).sum() for index in ends)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        outputs = forward(case, x, *parameters)
        if not all(torch.equal(one, other) for one, other in zip(outputs, expected, strict=True)):
            raise ArithmeticError(f"other numbers than the reference, {case}")
        found = backward(case, upstream, end, outputs, parameters)
        for name, value, wanted in zip(("x", *values), found, gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, {case}")

"""Products with a matrix that is mostly zeros, by the C kernels of linear.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.linear.reference import linear_reference

# Elements whose zeros are counted: all of a large x would cost some per cent of its dense product.
_SAMPLE = 1 << 15


class _Call(ctypes.Structure):
    """`linear_call` of linear.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "inner", "outer")),
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("x", "panels", "bias", "out", "sums", "scratch")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether these kernels serve matrices of `dtype`; compiles them at the first call."""
    return dtype in (torch.float32, torch.float64) and KERNELS.trusted(dtype)


def density(x: Tensor) -> float:
    """The part of x [R, K], contiguous, that is not zero, judged by rows spread over all of it."""
    rows, inner = x.shape
    sample = min(rows, 32 + _SAMPLE // inner)
    return _library(x.dtype).linear_count(x.data_ptr(), rows, inner, sample) / (sample * inner)


def product(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor | None:
    """x·matrix + bias for x [R, K], contiguous, matrix [K, N] and bias [N], contiguous.

    None when the matrix holds a NaN or an Inf: zero times these is a NaN, which a product that leaves out zeros misses.
    """
    panels = packed(matrix)
    if panels is None:
        return None
    out = native.empty((len(x), matrix.shape[1]), x.dtype)
    call = _call(x, matrix.shape[1], _threads(x, matrix.shape[1]))
    call.panels, call.out, call.bias = panels.data_ptr(), out.data_ptr(), None if bias is None else bias.data_ptr()
    _run("linear_product", call, x.dtype)
    return out


def outer(x: Tensor, grad: Tensor) -> Tensor | None:
    """gradᵀ·x [N, K] for x [R, K], contiguous, and grad [R, N]; None when grad holds a NaN or an Inf."""
    panels = packed(grad)
    if panels is None:
        return None
    out = native.empty((grad.shape[1], x.shape[1]), x.dtype)
    sums = native.empty((_panels_size(x.shape[1], grad.shape[1], x.dtype),), x.dtype)
    call = _call(x, grad.shape[1], _threads(x, grad.shape[1]))
    call.panels, call.out, call.sums = panels.data_ptr(), out.data_ptr(), sums.data_ptr()
    _run("linear_outer", call, x.dtype)
    return out


def _call(x: Tensor, columns: int, threads: int) -> _Call:
    return _Call(rows=len(x), inner=x.shape[1], outer=columns, threads=threads, x=x.data_ptr())


def _run(name: str, call: _Call, dtype: torch.dtype) -> None:
    library = _library(dtype)
    scratch = native.empty((call.threads * library.linear_scratch(call.inner),), torch.uint8)
    call.scratch = scratch.data_ptr()
    getattr(library, name)(ctypes.byref(call))


def _threads(x: Tensor, columns: int) -> int:
    # A product of this size has at least as much to do as so many elements.
    return native.threads_for(x.numel() + len(x) * columns)


def packed(matrix: Tensor) -> Tensor | None:
    """The panels of a matrix [R, C], as kernels take them; None when it holds a number that is not finite."""
    rows, columns = matrix.shape
    panels = native.empty((_panels_size(rows, columns, matrix.dtype),), matrix.dtype)
    bad = _library(matrix.dtype).linear_pack(
        matrix.data_ptr(), rows, columns, *matrix.stride(), panels.data_ptr(), native.threads_for(matrix.numel())
    )
    return None if bad else panels


def _panels_size(rows: int, columns: int, dtype: torch.dtype) -> int:
    return rows * (columns + _library(dtype).linear_panel())


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = KERNELS.library(dtype)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    library.linear_pack.argtypes = [pointer, number, number, number, number, pointer, ctypes.c_int32]
    library.linear_scratch.argtypes = [number]
    library.linear_count.argtypes = [pointer, number, number, number]
    for name in ("linear_panel", "linear_scratch", "linear_count"):
        getattr(library, name).restype = number
    return library


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    for rows, inner, columns in ((3, 5, 7), (600, 37, 300)):
        x, weight, bias, grad = normal(rows, inner), normal(columns, inner), normal(columns), normal(rows, columns)
        x *= torch.rand(x.shape, generator=generator) < 0.2
        pairs = {
            "product": (product(x, weight.t(), bias), linear_reference(x, weight, bias)),
            "product with a transposed matrix": (product(x, weight.t().contiguous(), None), x @ weight.t()),
            "gradient of the weight": (outer(x, grad), grad.t() @ x),
        }
        for name, (found, expected) in pairs.items():
            if found is None or not torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"another {name} than the reference")
        if density(x) != float((x != 0).sum()) / x.numel():
            raise ArithmeticError("another count than the reference")
        weight[-1, -1] = torch.inf
        if product(x, weight.t(), bias) is not None:
            raise ArithmeticError("a matrix that holds an Inf was not refused")


KERNELS = native.Kernels(Path(__file__).with_name("linear.c"), _self_test)

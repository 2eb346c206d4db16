"""Run by test_triton_compile.py in a process of its own: compiles kernels for a GPU that need not be there.

Triton's compiler and NVIDIA's assembler come with the package; only launching needs a GPU. Prints, as JSON, what became
of each launch that the operators below would have made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

from spikekit import surrogate
from spikekit.ops.astrocyte import gpu as astrocyte
from spikekit.ops.li import gpu as li
from spikekit.ops.lif import gpu as lif
from spikekit.ops.lif import state_dtype
from spikekit.ops.mpbn import gpu as mpbn
from spikekit.ops.mpbn.layer import Layer

CAPABILITY = int(sys.argv[1])
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class NoGPU:
    """As much of Triton's driver as compiling asks for."""

    def get_current_target(self):
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


class Compiled:
    """In the place of a kernel: compiles what it would launch, and keeps what came out."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *args, **kwargs: report(self.kernel.warmup(*args, grid=grid, **kwargs))


def report(compiled):
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        said = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found.append(
        {
            **label,
            "fused": len(re.findall(r"\bfma\.", ptx)),
            # The kernels have no arrays of their own: what lies on a stack did not fit the registers.
            "spilled": int(re.search(r"STACK:(\d+)", said).group(1)),
            "widths": sorted(set(re.findall(r"(?:ld|st)\.global\.(\S+)", ptx))),
        }
    )


found = []
label = {}
triton.runtime.driver.set_active(NoGPU())
for operation in (lif, li, mpbn, astrocyte):
    for name, value in vars(operation.KERNELS.module).items():
        if name.endswith("_kernel"):
            setattr(operation.KERNELS.module, name, Compiled(value))


def compile_all(dtype, neurons, curve, reset, kind):
    """Every launch of both operations, 9 steps; with a kind of parameter other than "one" all is learned."""
    x = torch.empty(9, -(-neurons // 8), min(neurons, 8), dtype=dtype)
    state = state_dtype(dtype)
    shape = {"one": (), "each": x.shape[1:], "periodic": x.shape[2:]}[kind]
    values = [torch.ones(shape, dtype=state) for _ in range(3)]
    learn = kind != "one"
    v0 = torch.empty(x.shape[1:], dtype=state) if learn else None
    label.update(name=f"{dtype} {neurons} {curve} {reset} {kind}", dtype=str(dtype), neurons=neurons)
    _, kept, v = lif.forward(x, v0, values, reset, False, lif.CHUNK)
    lif.forward(x, v0, values, reset, True, None)
    name, numbers = curve.encode()
    lif.backward(x, v if learn else None, x, kept, v0, values, reset, False, False, name, numbers, lif.CHUNK, learn)
    membranes = li.forward(x, v0, values[0])
    li.backward(membranes, membranes if learn else None, v0, values[0], dtype)


def compile_mpbn(dtype, batch, training, learn):
    """Both launches of the operation on a drive of 9 steps and 40 neurons."""
    x = torch.empty(9, batch, 40, dtype=dtype)
    state = state_dtype(dtype)
    values = [torch.ones(40 if learn else (), dtype=state) for _ in range(3)]
    affine = [torch.ones(40, dtype=state) for _ in range(4)]
    label.update(name=f"MPBN {dtype} {batch} {training} {learn}", dtype=str(dtype), neurons=40)
    choices = (training, 0.1, 1e-5, "soft", False, False, *surrogate.ATan().encode(), False)
    found = mpbn.forward(x, None, Layer.of(*values, *affine, *choices), True)
    statistics = (found.means, found.variances) if training else affine[2:]
    mpbn.backward(x, None, None, found.membranes, None, Layer.of(*values, *affine[:2], *statistics, *choices), learn)


def compile_astrocyte(dtype, n, acts_on, own, learn):
    """Both launches on a drive of 9 steps, 2 samples and 3 domains of n neurons, with 3 time scales."""
    x = torch.empty(9, 2, 3 * n, dtype=dtype)
    state = state_dtype(dtype)
    values = [torch.ones(3 * n if learn else (), dtype=state) for _ in range(3)]
    glia = [torch.ones(shape, dtype=state) for shape in ((3, 3), (3, 3), (3,), (3,))]
    sensed = None if own == 1 else torch.ones(9, 2, 3, dtype=state)
    label.update(name=f"astrocyte {dtype} {n} {acts_on} {own} {learn}", dtype=str(dtype), neurons=n)
    rule = ("soft", False)
    _, *traces, v, c = astrocyte.forward(x, None, None, sensed, values, glia, *rule, acts_on, own, True)
    astrocyte.forward(x, v, c, sensed, values, glia, *rule, acts_on, own, False)
    ends = (traces[1], v, c) if learn else (None, None, None)
    curve = surrogate.ATan().encode()
    rest = (v, c, values, glia, *rule, False, *curve, acts_on, own, learn)
    astrocyte.backward(x, *ends, *traces, x if acts_on == "gain" else None, *rest)


compile_all(torch.float32, 1, surrogate.ATan(), "soft", "one")
compile_all(torch.float32, 40, surrogate.FastSigmoid(), "hard", "periodic")
compile_all(torch.float32, 1 << 16, surrogate.ATan(), "soft", "each")
compile_all(torch.float32, 1 << 16, surrogate.SechBump(), "soft", "one")
compile_all(torch.bfloat16, 1 << 16, surrogate.Triangle(), "hard", "periodic")
compile_all(torch.float16, 40, surrogate.Exponential(), "none", "each")
compile_all(torch.float64, 40, surrogate.Rectangle(), "soft", "each")
compile_mpbn(torch.float32, 64, True, True)
compile_mpbn(torch.bfloat16, 256, True, False)
compile_mpbn(torch.float64, 3, False, False)
compile_astrocyte(torch.float32, 64, "gain", 1.0, True)
compile_astrocyte(torch.float32, 4096, "gain", 0.5, False)
compile_astrocyte(torch.float32, 2048, "gain", 0.5, True)
compile_astrocyte(torch.float32, 1000, "threshold", 1.0, True)
compile_astrocyte(torch.bfloat16, 1, "plasticity", 0.0, False)
compile_astrocyte(torch.float64, 256, "gain", 1.0, False)
print(json.dumps(found))

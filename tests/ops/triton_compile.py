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
from spikekit.ops.lif import gpu as lif

CAPABILITY = int(sys.argv[1])
PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"


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
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        arch = re.search(r"\.target (\w+)", ptx).group(1)
        command = [str(PTXAS), "-v", "--fmad=false", f"-arch={arch}", str(source), "-o", str(source.with_suffix(".o"))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found.append(
        {
            "name": label,
            "fused": len(re.findall(r"\bfma\.", ptx)),
            "spilled": sum(map(int, re.findall(r"(\d+) bytes spill stores", said))),
            "registers": int(re.search(r"Used (\d+) registers", said).group(1)),
            "widths": sorted(set(re.findall(r"(?:ld|st)\.global\.(\S+)", ptx))),
        }
    )


found = []
triton.runtime.driver.set_active(NoGPU())
for operation in (lif,):
    for name, value in vars(operation.KERNELS.module).items():
        if name.endswith("_kernel"):
            setattr(operation.KERNELS.module, name, Compiled(value))

for dtype in (torch.float32, torch.bfloat16):
    for neurons in (1, 35, 1 << 16):
        x = torch.empty(9, neurons // 8 or 1, min(neurons, 8), dtype=dtype)
        state = torch.float32
        numbers = [torch.ones((), dtype=state) for _ in range(3)]
        each = [torch.ones(x.shape[1:], dtype=state) for _ in range(3)]
        channel = [torch.ones(x.shape[2:], dtype=state) for _ in range(3)]
        for kind, values in {"numbers": numbers, "each": each, "channel": channel}.items():
            label = f"lif {dtype} {neurons} {kind}"
            learn = kind != "numbers"
            v0 = torch.empty(x.shape[1:], dtype=state) if learn else None
            spikes, kept, v = lif.forward(x, v0, values, "soft", False, lif.CHUNK)
            lif.forward(x, v0, values, "hard", True, None)
            curve, given = surrogate.ATan().encode()
            lif.backward(spikes, v, x, kept, v0, values, "soft", False, False, curve, given, lif.CHUNK, learn)
x = torch.empty(3, 64, dtype=torch.float64)
values = [torch.ones((), dtype=x.dtype) for _ in range(3)]
for curve in (surrogate.SechBump(), surrogate.Triangle(), surrogate.FastSigmoid(), surrogate.StraightThrough()):
    label = f"lif {curve}"
    name, given = curve.encode()
    lif.backward(x, None, x, None, None, values, "hard", False, False, name, given, lif.CHUNK, False)
print(json.dumps(found))

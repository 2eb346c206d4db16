"""Every C file under AddressSanitizer and UndefinedBehaviorSanitizer, by the tests of the operations themselves.

The sanitizers must be there before Python is: the tests run in processes of their own, with kernels compiled anew. What
runs no C, or what other tests of the same kernel run as well, is left out: it would be two thirds of the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Without optimisation the compiler takes a third of the time, and takes no error away.
FLAGS = "-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
# ASan's own exit code: pytest has none so high.
CODE = 99


# Files of tests/ops that take half of the time, and those that run no kernel.
NEURONS = ("alif", "cuba", "li", "lif_*", "neurons", "re*", "sigma_delta")
NO_KERNELS = ("gpu", "operators", "paths", "*triton*")
# Other paths, and the promises to torch, which keep no kernel from an address.
LEFT_OUT = ("triton", "plain_torch", "gradcheck", "opcheck", "compiled", "transforms")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What a process needs to run the kernels under the sanitizers of gcc."""
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        pytest.skip("needs gcc on Linux")
    names = ("libasan.so", "libubsan.so", "libstdc++.so")
    found = [
        subprocess.run([gcc, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in names
    ]
    if missing := [name for name, path in zip(names, found, strict=True) if not os.path.isabs(path)]:
        pytest.skip(f"gcc has no {missing}")
    # All workers of pytest-xdist have the folder above their own in common: each kernel is compiled once.
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return os.environ | {
        "CC": gcc,
        "SPIKEKIT_CFLAGS": FLAGS,
        "SPIKEKIT_CACHE": str(shared / "sanitized"),
        # Torch throws exceptions, and ASan looks for their thrower at the start: libstdc++ must be there, too.
        "LD_PRELOAD": " ".join(found),
        # Python and torch keep much until they end.
        "ASAN_OPTIONS": f"detect_leaks=0:exitcode={CODE}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={CODE}",
        # Only what malloc gives has guarded bounds.
        "SPIKEKIT_KEEP_MB": "0",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        # Its worker would be installed anew in that cache, and runs none of the kernels.
        "SPIKEKIT_NO_LAVA": "1",
    }


def python(environment, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1400
    )
    return done.returncode, done.stdout + done.stderr


RUN = """
import sys, torch
from pathlib import Path
from spikekit.native import Kernels
from spikekit.ops.lif import cpu
cpu.KERNELS = Kernels(Path(sys.argv[1]), cpu._self_test)
print("refusal:", cpu.KERNELS.refusal(torch.float32))
print("flags:", cpu.KERNELS.compiled(torch.float32).flags)
"""
ERRORS = {
    "writes one too many": (
        "c->spikes + row, n);",
        "c->spikes + row, n + (t + 1 == c->steps));",
        "AddressSanitizer",
    ),
    "reads what was freed": (
        "    real next[BLOCK];",
        "    volatile real *spare = malloc(8); free((void *)spare); c->grad_x[0] = *spare; real next[BLOCK];",
        "heap-use-after-free",
    ),
    "overflows": (
        "    real *v = c->v + at;",
        "    volatile int large = 2147483647; large += c->neurons > 0; real *v = c->v + at;",
        "signed integer overflow",
    ),
    "none": ("", "", "refusal: \n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_found(error, environment, tmp_path):
    """The sanitizers watch: an error that is put in stops the process, the file as it is does not."""
    text = (ROOT / "spikekit/ops/lif/lif.c").read_text(encoding="utf-8")
    old, new, message = ERRORS[error]
    assert old in text
    source = tmp_path / "lif.c"
    source.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
    code, output = python(environment, "-c", RUN, str(source))
    assert message in output
    assert code == (0 if error == "none" else CODE)
    if error == "none":
        assert FLAGS in output


def files(*names):
    return {str(file.relative_to(ROOT)) for name in names for file in ROOT.glob(f"tests/ops/test_{name}.py")}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("neurons", [True, False], ids=["neurons", "other"])
def test_the_kernels_are_clean(neurons, environment):
    """The first file of each half sees to it that all kernels serve, and no other path."""
    half = files(*NEURONS) if neurons else files("*") - files(*NEURONS)
    chosen = ["tests/ops/test_kernels.py", *sorted(half - files("kernels", *NO_KERNELS))]
    if not neurons:
        chosen.append("tests/properties")
    wanted = " and ".join(f"not {word}" for word in LEFT_OUT)
    arguments = ("-q", "-x", "-s", "-p", "no:cacheprovider", "-m", "not slow", "-k", wanted)
    code, output = python(environment, "-m", "pytest", *arguments, *chosen)
    assert code == 0, output[-6000:]

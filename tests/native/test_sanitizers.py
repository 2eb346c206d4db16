"""Every C file under AddressSanitizer and UndefinedBehaviorSanitizer, by the tests of the operations themselves.

The sanitizers must be there before Python is: the tests run in a process of their own, with kernels compiled anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spikekit.doctor import KERNEL_MODULES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
# ASan's own exit code: pytest has none so high.
CODE = 99


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
    return os.environ | {
        "CC": gcc,
        "SPIKEKIT_CFLAGS": FLAGS,
        "SPIKEKIT_CACHE": str(tmp_path_factory.mktemp("sanitized")),
        # Torch throws exceptions, and ASan looks for their thrower at the start: libstdc++ must be there, too.
        "LD_PRELOAD": " ".join(found),
        # Python and torch keep much until they end.
        "ASAN_OPTIONS": f"detect_leaks=0:exitcode={CODE}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={CODE}",
        # Only what malloc gives has guarded bounds.
        "SPIKEKIT_KEEP_MB": "0",
        "OMP_NUM_THREADS": "2",
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


TRUST = """
import importlib, torch
from spikekit.doctor import KERNEL_MODULES
for name in KERNEL_MODULES:
    for dtype in (torch.float32, torch.float64):
        kernels = importlib.import_module(name).KERNELS
        assert not kernels.refusal(dtype), (name, dtype, kernels.refusal(dtype))
        assert "-fsanitize=address" in kernels.compiled(dtype).flags
"""


def test_the_kernels_are_clean(environment):
    """All tests of the operations; the first part sees to it that they do not take another path."""
    assert KERNEL_MODULES
    assert python(environment, "-c", TRUST) == (0, "")
    arguments = ("-q", "-x", "-s", "-p", "no:cacheprovider", "-m", "not slow", "tests/ops", "tests/properties")
    code, output = python(environment, "-m", "pytest", *arguments)
    assert code == 0, output[-6000:]

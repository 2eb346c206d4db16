"""Does a worker interpreter really run Lava? A network of two neurons, with its answer known."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikekit.errors import WorkerError
from spikekit.export.lava.client import run_job
from spikekit.export.lava.job import LavaJob
from spikekit.export.lava.layer import LavaInput, LavaLayer
from spikekit.export.lava.locate import LAVA_VERSION

_PACKAGES = ("lava-nc", "numpy", "scipy", "networkx", "asteval")
_VERSIONS = f"""
import json, platform
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({{"python": platform.python_version(), **{{n: version(n) for n in {_PACKAGES!r}}}}}))
"""


@dataclass(frozen=True)
class WorkerReport:
    """What a worker interpreter is and whether it works; `problem` is None when it does.

    versions: of Python and each package, None for one that is missing; seconds: the length of the whole trial
    run.
    """

    python: Path
    versions: dict[str, str | None]
    problem: str | None
    seconds: float | None

    @property
    def ok(self) -> bool:
        """Whether the trial network gave the known answer."""
        return self.problem is None

    def __str__(self) -> str:
        known = ", ".join(f"{name} {version or 'missing'}" for name, version in self.versions.items())
        state = f"a trial network ran in {self.seconds:.2f} s" if self.ok else f"does not work: {self.problem}"
        return f"Lava worker {self.python}: {state}" + (f" ({known})" if known else "")


def _one(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def trial() -> LavaJob:
    """One neuron after another, three input spikes, weight 100, threshold 150, a quarter lost each step."""
    layers = tuple(
        LavaLayer(
            name=name,
            inputs=(LavaInput(source, _one(0), _one(0), _one(100), 1),),
            decay=_one(1024),
            bias=_one(0),
            threshold=_one(150),
            quantum=_one(150 << 6),
            reset="soft",
            inclusive=False,
            fires=True,
        )
        for source, name in ((-1, "first"), (0, "second"))
    )
    return LavaJob("fixed", layers, np.ones((1, 3, 1), bool))


def _versions(python: Path) -> dict[str, str | None]:
    """What is installed there; nothing at all if the interpreter does not answer."""
    try:
        done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, timeout=20.0)
        versions: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return versions


def check(python: str | os.PathLike[str]) -> WorkerReport:
    """Run the trial network with `python` and compare; never raises for a worker that does not work."""
    path = Path(python)
    versions = _versions(path)
    began = time.monotonic()
    try:
        result = run_job(trial(), python=path, timeout=30.0)
    except WorkerError as error:
        return WorkerReport(path, versions, str(error), None)
    seconds = time.monotonic() - began
    # In units of 1/64: 6400; 4800 + 6400 = 11200 > 9600, fires, 1600; 1200 + 6400 = 7600. Then 0; 6400; 4800.
    fired = [spikes[0, :, 0].tolist() for spikes in result.spikes]
    left = [int(membranes[0, 0]) for membranes in result.membranes]
    problem = None
    if fired != [[False, True, False], [False] * 3] or left != [7600, 4800]:
        problem = f"a trial network of two neurons gave {fired} and {left}: `spikekit lava install --force`"
    elif result.lava_version != LAVA_VERSION:
        problem = f"lava-nc {result.lava_version} is not {LAVA_VERSION}: `spikekit lava install`"
    return WorkerReport(path, versions, problem, seconds)

"""Record what lava-dl's netx computes for networks that `LoihiNet.to_netx` wrote, for tests that have no lava-dl.

lava-dl 0.6.0 declares Python 3.10 and pins torch 2.3. It also runs with newer ones, in an environment of its own:

    python -m venv netx-env
    netx-env/bin/pip install torch numpy==1.26.4 scipy==1.15.3 networkx asteval h5py matplotlib safetensors
    netx-env/bin/pip install --no-deps --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0
    PYTHONPATH=$PWD netx-env/bin/python tests/golden/make_netx.py

writes NAME.netx.npz beside this file: what netx answered, step by step. The networks are made anew by the test.
"""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
# By folder: lava-nc brings a package `tests` of its own.
sys.path += [str(HERE.parent / "export"), str(HERE.parents[1] / "spikekit" / "export" / "lava" / "worker")]


def load_netx():
    """lava-dl's netx; its object detection, which wants torchvision, is left out."""
    import shim

    shim.prepare()
    sys.modules["lava.lib.dl.slayer.object_detection"] = types.ModuleType("object_detection")
    from lava.lib.dl.netx import hdf5

    return hdf5


def run(hdf5, path: Path, x: np.ndarray, fires: bool) -> np.ndarray:
    """Spikes of the last layer, or membranes of a readout [T, N, n], for x [T, N, n_in], sample after sample."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.monitor.process import Monitor

    steps, samples = x.shape[:2]
    net = hdf5.Network(net_config=str(path), reset_interval=steps, reset_offset=1)
    shape = net.in_layer.inp.shape
    frames = x.transpose(1, 0, 2).reshape(samples * steps, -1)
    if len(shape) == 3:
        # netx has images as (W, H, C).
        frames = frames.reshape(-1, *shape[::-1]).transpose(0, 3, 2, 1)
    total = samples * steps + len(net.layers)
    padded = np.zeros((total, *shape), np.int64)
    padded[: len(frames)] = frames.reshape(-1, *shape)
    source = Source(data=np.moveaxis(padded, 0, -1))
    sink, monitor = Sink(shape=net.out.shape, buffer=total), Monitor()
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    monitor.probe(net.out_layer.neuron.v, total)
    net.run(condition=RunSteps(num_steps=total), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    try:
        if fires:
            found = np.moveaxis(sink.data.get(), -1, 0)
        else:
            (process,) = monitor.get_data().values()
            found = process["v"]
    finally:
        net.stop()
    lag = len(net.layers)
    found = found[lag : lag + samples * steps]
    if found.ndim == 4:
        found = found.transpose(0, 3, 2, 1)
    return found.reshape(samples, steps, -1).transpose(1, 0, 2).astype(np.int64)


def main() -> None:
    """Run every case and write it."""
    from netx_cases import CASES, case

    hdf5 = load_netx()
    for name in CASES:
        chip, x = case(name)
        with tempfile.TemporaryDirectory() as folder:
            path = chip.to_netx(Path(folder) / "net.net")
            found = run(hdf5, path, x.flatten(2).numpy().astype(np.int64), chip.layers[-1].fires)
        np.savez_compressed(HERE / f"{name}.netx.npz", found=found)
        trace = chip.trace(x)[-1]
        ours = trace.spikes if chip.layers[-1].fires else trace.membranes
        wrong = int((torch.from_numpy(found) != ours.long()).sum())
        print(f"{name}: {wrong} of {found.size} differ; {float(ours.double().abs().mean()):.3f} on average")


if __name__ == "__main__":
    main()

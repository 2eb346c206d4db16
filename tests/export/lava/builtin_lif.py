"""Run in the worker interpreter: Lava's own Dense and LIF in fixed point, without anything of ours but the
shim.

`python builtin_lif.py WORKER_FOLDER CASE.npz OUT.npz`: the case holds inputs [T, n_in], weights, weight_exp,
and scalars du, dv, vth, bias_mant, bias_exp; the answer holds spikes [T, n] and the final membranes v [n].
"""

from __future__ import annotations

import sys

import numpy as np


def main(folder: str, case: str, out: str) -> None:
    sys.path.insert(0, folder)
    import shim

    shim.prepare()

    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIFReset

    with np.load(case) as file:
        given = {key: file[key] for key in file.files}
    inputs, weights = given.pop("inputs"), given.pop("weights")
    steps, n = len(inputs), len(weights)
    # The synapse delays by one step: one empty frame more at the end, one unused answer at the start.
    source = Source(data=np.vstack([inputs, np.zeros_like(inputs[:1])]).T)
    dense = Dense(weights=weights, weight_exp=int(given.pop("weight_exp")))
    # The bias acts from the first step on, the input from the second: cleared between the two.
    lif = LIFReset(shape=(n,), reset_interval=2 * steps, reset_offset=2, **{key: int(given[key]) for key in given})
    sink = Sink(shape=(n,), buffer=steps + 1)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(lif.a_in)
    lif.s_out.connect(sink.a_in)
    try:
        lif.run(condition=RunSteps(num_steps=steps + 1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        np.savez(out, spikes=sink.data.get().T[1:].astype(bool), v=lif.v.get().astype(np.int64))
    finally:
        lif.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4])

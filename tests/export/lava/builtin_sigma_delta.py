"""Run in the worker interpreter: Lava's own Dense and SigmaDelta in fixed point, without anything of ours but the shim.

`python builtin_sigma_delta.py WORKER_FOLDER CASE.npz OUT.npz`: the case holds inputs [T, n_in], weights0, weights1 ...
of the layers, and scalars vth, act_mode and state_exp; the answer holds messages0 [T, n] ... and sigma0 [n] ...
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
    from lava.proc.sdn.process import ActivationMode, SigmaDelta

    with np.load(case) as file:
        given = {key: file[key] for key in file.files}
    inputs = given["inputs"]
    weights = [given[name] for name in sorted(given) if name.startswith("weights")]
    steps = len(inputs)
    # Each synapse delays by one step. Without a bias nothing is sent before the first frame has arrived.
    source = Source(data=np.vstack([inputs, np.zeros((len(weights), inputs.shape[1]), int)]).T)
    port, sinks, neurons = source.s_out, [], []
    for each in weights:
        dense = Dense(weights=each, num_message_bits=24)
        shift = int(given["state_exp"])
        # Lava shifts the threshold by as much as the states: here it is in units of the states.
        neuron = SigmaDelta(
            shape=(len(each),), vth=int(given["vth"]) >> shift, act_mode=ActivationMode(int(given["act_mode"])),
            state_exp=shift,
        )  # fmt: skip
        sink = Sink(shape=(len(each),), buffer=steps + len(weights))
        port.connect(dense.s_in)
        dense.a_out.connect(neuron.a_in)
        neuron.s_out.connect(sink.a_in)
        port = neuron.s_out
        sinks.append(sink)
        neurons.append(neuron)
    try:
        source.run(condition=RunSteps(num_steps=steps + len(weights)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        found = {f"messages{i}": sink.data.get().T[i + 1 : i + 1 + steps] for i, sink in enumerate(sinks)}
        np.savez(out, **found, **{f"sigma{i}": neuron.sigma.get() for i, neuron in enumerate(neurons)})
    finally:
        source.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""The integer simulator beside Lava, per recording, bit for bit: the network and the recordings of the demo.

    python -m benchmarks.integer                    # uses runs/demo/net.npz, or trains for two epochs

Lava's time is that of its steps alone, as its worker measures it, without start and compilation; ours is all of
`LoihiNet.simulate`. Both are wall-clock times, the best of several runs, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

import spikekit as sk
from spikekit.export import LoihiNet, to_loihi
from spikekit.export.tables import table
from spikekit.task import Task
from spikekit.train import seed_all


def demo_network(path: Path, task: Task) -> LoihiNet:
    """What `make demo` exported, or the same network after two epochs."""
    if path.exists():
        return LoihiNet.load(path)
    seed_all(0)
    trainer = sk.Trainer(task.build(), **task.recipe(), progress=False)
    trainer.fit(task.loaders(batch_size=20)[0], epochs=2)
    calibration = task.frames("train").frames[:200].to(torch.float32).transpose(0, 1)
    return to_loihi(trainer.net.eval(), calibration)


def best(chip: LoihiNet, x: Tensor, repeats: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        chip.simulate(x)
        times.append(time.perf_counter() - start)
    return min(times)


def measure(chip: LoihiNet, x: Tensor, lava_samples: int, repeats: int) -> tuple[list[list[str]], bool]:
    """Rows of recordings, seconds and milliseconds each, ours and Lava's; and whether every spike agreed."""
    chip.simulate(x[:, :1])
    rows, ours = [], []
    for samples in sorted({1, min(100, x.shape[1]), x.shape[1]}):
        seconds = best(chip, x[:, :samples], repeats)
        ours.append(seconds / samples)
        rows.append([f"simulate, {samples:,} at once", f"{seconds:.3f}", f"{1e3 * ours[-1]:.3f}"])
    if not lava_samples:
        return rows, True
    proofs = [chip.verify(x[:, :lava_samples]) for _ in range(2)]
    seconds = min(proof.seconds for proof in proofs)
    lava = seconds / lava_samples
    rows.append([f"Lava, {lava_samples:,} one after the other", f"{seconds:.3f}", f"{1e3 * lava:.3f}"])
    rows.append(["Lava's time a recording to ours, one at a time", "", f"{lava / ours[0]:.0f} x"])
    rows.append(["Lava's time a recording to ours, all at once", "", f"{lava / ours[-1]:.0f} x"])
    return rows, all(proof.identical for proof in proofs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, default=Path("runs/demo/net.npz"), help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1000, help="recordings at once (default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=20, help="0 does without Lava (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = Task().resolved()
    chip = demo_network(given.network, task)
    x = task.frames("train").frames[: given.samples].to(torch.float32).transpose(0, 1)
    rows, identical = measure(chip, x, given.lava_samples, given.repeats)
    print(table([f"{task.name}, {x.shape[0]} steps, {given.threads} thread(s)", "seconds", "ms a recording"], rows))
    if given.lava_samples:
        print(f"every spike and every last membrane of {given.lava_samples} recordings equal: {identical}")
    if given.json:
        given.json.write_text(json.dumps({"data": task.name, "rows": rows, "identical": identical}) + "\n")


if __name__ == "__main__":
    main()

"""A network of the size of Spiking Heidelberg Digits, 700-256-256-20: a training step and inference beside the peers.

T = 100, B = 64, 5 % of the input on. A training step is forward, loss and backward, without an optimiser. The floor is
the dense network without neurons: what the weights alone cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.network_run import network_main
from benchmarks.workloads import mlp


def main(arguments: Sequence[str] | None = None) -> None:
    network_main("mlp", __doc__, mlp, {"steps": 100, "batch": 64}, {"steps": 10, "batch": 4}, arguments)


if __name__ == "__main__":
    main()

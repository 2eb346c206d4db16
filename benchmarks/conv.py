"""The convolutional network of `make demo` on frames of N-MNIST's size: a training step and inference beside the peers.

T = 16, B = 32, 5 % of the input on, BatchNorm folded away. The floor is the network without neurons.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.network_run import network_main
from benchmarks.workloads import conv


def main(arguments: Sequence[str] | None = None) -> None:
    network_main("conv", __doc__, conv, {"steps": 16, "batch": 32}, {"steps": 4, "batch": 2}, arguments)


if __name__ == "__main__":
    main()

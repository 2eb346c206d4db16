"""The command line: `spikekit doctor | train | evaluate | export | verify | report | lava`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spikekit.errors import SpikekitError

_DESCRIPTION = """Spiking networks from event data to a Loihi-style chip, proven spike for spike.

  spikekit doctor                          what works here, and what to type where it does not
  spikekit train --out runs/first          train on N-MNIST, or on an embedded synthetic set without it
  spikekit evaluate runs/first             accuracy and firing rates of the trained network
  spikekit export runs/first               quantise to 8-bit integers: runs/first/net.npz
  spikekit verify runs/first/net.npz       run it on Intel Lava and compare every spike
  spikekit report runs/first/net.npz       sizes, rates, operations, quantisation loss, a picture
  spikekit lava install                    set up the interpreter that Lava runs in
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted."""
    given = _parser().parse_args(arguments)
    try:
        # Imported for the command at hand only, so that --help answers at once.
        from spikekit import commands

        code: int = getattr(commands, given.command)(given)
        return code
    except SpikekitError as error:
        print(f"spikekit {given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"spikekit {given.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "spikekit", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what is installed, what runs, what to type if it does not")
    doctor.add_argument("--no-lava", action="store_true", help="do not run the trial network in Lava")

    train = commands.add_parser("train", help="train a network on event recordings")
    train.add_argument("--out", type=Path, required=True, help="run folder for checkpoints, metrics.csv, TensorBoard")
    train.add_argument(
        "--data",
        default="auto",
        help="auto, nmnist or saccade-digits (synthetic); auto: N-MNIST where it is found",
    )
    train.add_argument("--model", default="event_conv", help="event_conv or mlp (default: %(default)s)")
    train.add_argument("--bins", type=_positive, default=10, help="frames a recording, T (default: %(default)s)")
    train.add_argument("--epochs", type=_positive, default=30, help="(default: %(default)s)")
    train.add_argument("--batch-size", type=_positive, default=20, help="(default: %(default)s)")
    train.add_argument("--lr", type=float, default=4e-3, help="peak learning rate (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    train.add_argument("--devices", default="1", help="number of devices, or auto (default: %(default)s)")
    train.add_argument("--precision", default="32-true", help="32-true, bf16-mixed, 16-mixed (default: %(default)s)")
    train.add_argument("--fresh", action="store_true", help="start again instead of resuming from --out")

    evaluate = commands.add_parser("evaluate", help="accuracy and firing rates of a trained network")
    evaluate.add_argument("run", type=Path, help="run folder, or a .safetensors file of it")

    export = commands.add_parser("export", help="fold and quantise a trained network to Loihi-style integers")
    export.add_argument("run", type=Path, help="run folder, or a .safetensors file of it")
    export.add_argument("--out", type=Path, help="file to write (default: net.npz in the run folder)")
    export.add_argument("--calibration", type=_positive, default=200, help="recordings (default: %(default)s)")

    verify = commands.add_parser("verify", help="run an exported network on Intel Lava, compare every spike")
    _network(verify)
    verify.add_argument("--backend", choices=("lava-fixed", "lava-float", "both"), default="both")
    verify.add_argument("--samples", type=_positive, default=10, help="recordings (default: %(default)s)")
    verify.add_argument("--timeout", type=float, default=600.0, help="seconds (default: %(default)s)")

    report = commands.add_parser("report", help="what an exported network costs and loses, layer by layer")
    _network(report)
    report.add_argument("--samples", type=_positive, default=100, help="recordings (default: %(default)s)")

    lava = commands.add_parser("lava", help="the worker interpreter that runs Intel Lava")
    lava.add_argument("action", choices=("install", "check"))
    lava.add_argument("--python", help="interpreter to build on (default: python3.10 on PATH, else this one)")
    lava.add_argument("--force", action="store_true", help="build it anew even if it is there")
    return parser


def _network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", type=Path, help="file written by `spikekit export`")
    parser.add_argument("--data", default="auto", help="recordings: auto, nmnist or saccade-digits")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `spikekit doctor | train | evaluate | generate | detect | export | verify | report | lava`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import spikekit
from spikekit.errors import SpikekitError

# Listed, not imported, so that --help loads none of what the commands need; a test holds them to the originals.
DATA = ("auto", "nmnist", "saccade-digits")
MODELS = ("convnet", "event_conv", "mlp", "resnet19", "resnet20", "vgg16")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")

_READER_GONE = 128 + 13
"""What a shell reports for a program that SIGPIPE ended."""

Number = TypeVar("Number", int, float)

_DESCRIPTION = """Spiking networks from event data to a Loihi-style chip, proven spike for spike.

  spikekit doctor                          what works here, and what to type where it does not
  spikekit train --out runs/first          train on N-MNIST, or on an embedded synthetic set without it
  spikekit train RECIPE --out runs/second  train what a YAML file says
  spikekit generate runs/text --stats      go on with a text, token by token, with a trained language model
  spikekit evaluate runs/first             accuracy and firing rates of the trained network
  spikekit detect runs/ems a.jpg --out out boxes in pictures and event recordings, as JSON and drawn
  spikekit export runs/first               quantise to 8-bit integers: runs/first/net.npz
  spikekit verify runs/first/net.npz       run it on Intel Lava and compare every spike
  spikekit report runs/first/net.npz       sizes, rates, loss, cores, energy and the proof on one page: report.html
  spikekit lava install                    set up the interpreter that Lava runs in
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 1 a clear error, 2 wrong usage, 130 interrupted, 141 when whatever read the output has gone.
    """
    try:
        try:
            return _run(_parser().parse_args(arguments))
        finally:
            # Here, because at the interpreter's exit nothing could catch it any more.
            sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has read enough. What is still buffered is written at exit all the same: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE


def _run(given: argparse.Namespace) -> int:
    try:
        # Imported for the command at hand only, so that --help answers at once.
        from spikekit import commands

        code: int = getattr(commands, given.command)(given)
        return code
    except BrokenPipeError:
        raise
    except (SpikekitError, OSError) as error:
        # An OSError names its file: a full disk, a folder that cannot be written.
        print(f"spikekit {given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"spikekit {given.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "spikekit", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {spikekit.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what is installed, what runs, what to type if it does not")
    doctor.add_argument("--no-lava", action="store_true", help="do not run the trial network in Lava")

    train = commands.add_parser("train", help="train a network on event recordings, or what a recipe says")
    train.add_argument("recipe", nargs="?", help="YAML file, or a name, such as nmnist_conv, of one that is included")
    train.add_argument("--out", type=Path, required=True, help="run folder for checkpoints, metrics.csv, TensorBoard")
    train.add_argument(
        "--data",
        choices=DATA,
        help="saccade-digits is synthetic; auto: N-MNIST where it is found (default: auto, or the recipe's)",
    )
    train.add_argument("--model", choices=MODELS, help="(default: event_conv, or the recipe's)")
    train.add_argument("--bins", type=_count, help="frames a recording, T (default: 10, or the recipe's)")
    train.add_argument("--epochs", type=_count, help="(default: 30, or the recipe's)")
    train.add_argument("--batch-size", type=_count, help="(default: 20, or the recipe's)")
    train.add_argument("--lr", type=_amount, help="peak learning rate (default: 4e-3, or the recipe's)")
    train.add_argument("--seed", type=_seed, help="(default: 0, or the recipe's)")
    train.add_argument("--devices", type=_devices, default=1, help="number of devices, or auto (default: %(default)s)")
    train.add_argument("--precision", choices=PRECISIONS, help="(default: 32-true, or the recipe's)")
    train.add_argument("--fresh", action="store_true", help="start again instead of resuming from --out")

    evaluate = commands.add_parser("evaluate", help="accuracy and firing rates of a trained network, mAP of a detector")
    evaluate.add_argument("run", type=Path, help="run folder, or a .safetensors file of it")

    generate = commands.add_parser("generate", help="go on with a text, token by token, in constant memory")
    generate.add_argument("checkpoint", type=Path, help="run folder of a recipe on text, or a .safetensors file of it")
    generate.add_argument("--prompt", type=_text, default="\n", help="text to go on with (default: a new line)")
    generate.add_argument("--count", type=_whole, default=300, help="tokens to write (default: %(default)s)")
    generate.add_argument("--temperature", type=_level, default=0.8, help="0: the likeliest (default: %(default)s)")
    generate.add_argument("--top-k", type=_count, help="draw among so many (default: all)")
    generate.add_argument("--seed", type=_seed, default=0, help="(default: %(default)s)")
    generate.add_argument("--stats", action="store_true", help="speed, bytes of state, firing rate of every layer")
    generate.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the calcium of astrocytes: .png, .svg, .pdf"
    )

    detect = commands.add_parser("detect", help="boxes in pictures or event recordings, by a trained detector")
    detect.add_argument("run", type=Path, help="run folder, or a .safetensors file of it")
    detect.add_argument(
        "input",
        nargs="+",
        help="pictures, events (.dat, .bin), folders of them, or test: samples of the run's own data",
    )
    detect.add_argument("--out", type=Path, required=True, help="folder for boxes.json and the drawn pictures")
    detect.add_argument("--confidence", type=_amount, default=0.25, help="lowest score (default: %(default)s)")
    detect.add_argument(
        "--overlap", type=_amount, default=0.45, help="largest of two of a class (default: %(default)s)"
    )
    detect.add_argument("--window", type=_amount, default=300.0, help="milliseconds of events (default: %(default)s)")
    detect.add_argument("--samples", type=_count, default=8, help="windows, or samples of test (default: %(default)s)")
    detect.add_argument("--stream", action="store_true", help="carry the neurons' state from one window to the next")

    export = commands.add_parser("export", help="fold and quantise a trained network to Loihi-style integers")
    export.add_argument("run", type=Path, help="run folder, or a .safetensors file of it")
    export.add_argument("--out", type=Path, help="file to write (default: net.npz in the run folder)")
    export.add_argument("--bits", type=int, choices=range(4, 9), default=8, help="of a weight (default: %(default)s)")
    export.add_argument(
        "--thresholds",
        choices=("neuron", "group", "layer"),
        help="one a neuron, at most 16 a layer, or one a layer (default: neuron; with --netx: layer)",
    )
    export.add_argument("--netx", type=Path, metavar="FILE", help="also write HDF5 for lava-dl's netx; hard reset only")
    export.add_argument("--nir", type=Path, metavar="FILE", help="also write NIR, of the float network")
    export.add_argument("--calibration", type=_count, default=200, help="recordings (default: %(default)s)")

    verify = commands.add_parser("verify", help="run an exported network on Intel Lava, compare every spike")
    _network(verify)
    verify.add_argument(
        "--backend",
        choices=("lava-fixed", "lava-float", "both"),
        default="both",
        help="arithmetic of the chip, or floating point (default: %(default)s)",
    )
    verify.add_argument("--samples", type=_count, default=10, help="recordings (default: %(default)s)")
    verify.add_argument("--timeout", type=_amount, default=600.0, help="seconds (default: %(default)s)")

    report = commands.add_parser("report", help="what an exported network costs and loses, on one HTML page")
    _network(report)
    report.add_argument("--samples", type=_count, default=100, help="recordings (default: %(default)s)")
    report.add_argument("-o", "--out", type=Path, help="page to write (default: report.html beside the network)")
    report.add_argument("--json", type=Path, help="the same as JSON (default: beside the page)")
    report.add_argument(
        "--proof",
        type=_whole,
        default=2,
        help="recordings to run on Lava too, where it is installed; 0: none (default: %(default)s)",
    )
    report.add_argument("--timeout", type=_amount, default=600.0, help="of the proof, seconds (default: %(default)s)")

    lava = commands.add_parser("lava", help="the worker interpreter that runs Intel Lava")
    lava.add_argument("action", choices=("install", "check"), help="set it up, or run a small network in it")
    lava.add_argument("--python", help="interpreter to build on (default: python3.10 on PATH, else this one)")
    lava.add_argument("--force", action="store_true", help="build it anew even if it is there")
    return parser


def _network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", type=Path, help="file written by `spikekit export`, or its run folder")
    parser.add_argument("--data", choices=DATA, help="recordings (default: the data the network was trained on)")


def _count(text: str) -> int:
    return _number(text, int, lambda value: value > 0, "a whole number above 0")


def _whole(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "a whole number from 0")


def _seed(text: str) -> int:
    # Generators of torch take 64 bits.
    return _number(text, int, lambda value: 0 <= value < 2**64, "a whole number from 0 to 2**64 - 1")


def _amount(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < math.inf, "a finite number above 0")


def _level(text: str) -> float:
    return _number(text, float, lambda value: 0 <= value < math.inf, "a finite number from 0")


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a prompt needs a character at least")
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise argparse.ArgumentTypeError("the prompt is no UTF-8 text")
    return text


def _devices(text: str) -> int | str:
    return text if text == "auto" else _number(text, int, lambda value: value > 0, "auto or a whole number above 0")


def _number(text: str, kind: Callable[[str], Number], fits: Callable[[Number], bool], wanted: str) -> Number:
    try:
        value = kind(text)
        if fits(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


if __name__ == "__main__":
    sys.exit(main())

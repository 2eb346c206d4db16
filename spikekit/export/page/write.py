"""`write_report`: an exported network on one self-contained page, and the same as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from spikekit.errors import ExportError, InputError
from spikekit.export.cost.energy import CHIPS, EnergyModel
from spikekit.export.cost.targets import LOIHI1, LOIHI2, Target
from spikekit.export.network import LoihiNet
from spikekit.export.page import chips, sections
from spikekit.export.page.html import document
from spikekit.export.page.summary import Summary, as_json, summarise
from spikekit.export.verify import Proof
from spikekit.files import replacing

_SECTIONS = (
    sections.head,
    chips.proofs,
    sections.layers,
    sections.activity,
    sections.losses,
    chips.cores,
    chips.energy,
    sections.pictures,
    chips.sources,
)


def write_report(
    chip: LoihiNet,
    x: Tensor,
    path: str | Path,
    *,
    proof: Proof | Sequence[Proof] | None = None,
    targets: Sequence[Target] = (LOIHI1, LOIHI2),
    models: Sequence[EnergyModel] = CHIPS,
    accuracies: Mapping[str, float] | None = None,
    title: str = "",
    data: str = "",
    json_path: str | Path | None = None,
) -> Path:
    """Write what `chip` is, does, loses and costs on x [T, B, ...] to one HTML page; returns its path.

    The page holds its style and its pictures, asks for nothing and runs nothing. The same figures go to json_path, or
    beside the page with the ending .json. proof: what `chip.verify` returned, one or several; without, the page says
    that it was not run. targets: chips whose cores are counted; `LOIHI2.edited({"in_axons": 8192})` is one of your own.
    models: tables of energy. accuracies: name -> part of the samples that were right. title, data: names for the head.
    Raises InputError for input that the network cannot take, ExportError for a place that cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the page a name, such as {path / 'report.html'}")
    beside = path.with_suffix(".json") if json_path is None else Path(json_path)
    if beside == path:
        raise InputError(f"{path}: the page and the JSON beside it would be one file; give the page the ending .html")
    summary = summarise(
        chip, x, proof=proof, targets=targets, models=models, accuracies=accuracies, title=title, data=data
    )
    _write(beside, json.dumps(as_json(summary), indent=2, allow_nan=False) + "\n")
    _write(path, page(summary))
    return path


def page(summary: Summary) -> str:
    """The page as text."""
    return document(summary.title, *(part(summary) for part in _SECTIONS))


def _write(path: Path, text: str) -> None:
    with replacing(path, ExportError) as temporary:
        temporary.write_text(text, encoding="utf-8")

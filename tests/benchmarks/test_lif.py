"""One LIF layer: the run reports every number, checks equations before it times, and drops no contender in silence."""

from __future__ import annotations

import importlib.util

import pytest
import torch

import spikekit as sk
from benchmarks import lif
from benchmarks.agreement import Agreement
from benchmarks.contenders import LAYERS, OURS, OURS_ATTACHED, PLAIN, Contender
from benchmarks.measure import PEERS

TOY = ("--steps", "2", "--neurons", "64", "--repeats", "2")


def test_quick_run_reports_every_number(quick):
    report, text = quick("lif", *TOY)
    assert [cell["mode"] for cell in report["cells"]] == ["training", "inference"]
    for cell in report["cells"]:
        assert set(cell["results"]) == {"bound", OURS.name, OURS_ATTACHED.name, PLAIN.name}
        assert all(result["repeats"] == 2 and result["cpu"] > 0 for result in cell["results"].values())
    assert report["machine"]["versions"]["torch"] == torch.__version__
    absent = {c["name"]: c["absent"] for c in report["contenders"] if c["absent"]}
    assert set(absent) == set(PEERS)
    assert all(why.startswith(f"not installed ({peer}") for peer, why in absent.items())
    assert "| T=2 M=64 |" in text
    assert "not installed (norse.torch); LIFBoxCell" in text


def test_missing_wrong_and_broken_contenders_stay_in_the_table(monkeypatch, quick):
    def breaks_later():
        # Works on the size of the check, fails on the one that is timed.
        return lambda x: sk.LIF(0.9, detach_reset=True)(x) if x.shape[0] == 16 else 1 / 0

    def wrong():
        return sk.LIF(0.5)

    def silent_gradient():
        return lambda x: sk.LIF(0.9, detach_reset=True)(x) + 0 * x * float("nan")

    broken = [Contender(f.__name__, OURS.twin, "a note", sequence=f) for f in (breaks_later, wrong, silent_gradient)]
    monkeypatch.setattr(lif, "LAYERS", (OURS, *broken))
    report, text = quick("lif", *TOY)
    absent = {c["name"]: c["absent"] for c in report["contenders"]}
    assert absent["breaks_later"] is None
    assert absent["wrong"].startswith("not timed: ")
    assert absent["silent_gradient"].startswith("not timed: ")
    assert all(set(cell["results"]) == {"bound", OURS.name, "breaks_later"} for cell in report["cells"])
    assert "| failed | not timed | not timed |" in text
    assert "- breaks_later: ZeroDivisionError: division by zero" in text


PRESENT = [c for c in LAYERS if c.name not in PEERS or importlib.util.find_spec(c.name)]


@pytest.mark.parametrize("contender", PRESENT, ids=[c.name for c in PRESENT])
def test_twin_has_the_equations_of_the_contender(contender: Contender):
    found = lif.check(contender, contender.layer())
    assert found.differ <= 1e-3 * found.spikes
    assert found.gradient_error < 1e-5
    assert 0.05 < found.spikes / found.entries < 0.5
    assert found.refusal() is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (Agreement(0, 0, 100, 0.0), "silent"),
        (Agreement(1, 100, 1000, 0.0), "1 entries differ"),
        (Agreement(0, 100, 1000, 0.1), "gradient"),
        (Agreement(0, 100, 1000, float("nan")), "gradient"),
    ],
)
def test_what_disagrees_is_refused(found, why):
    assert why in found.refusal()


def test_plain_loop_is_the_definition():
    x = lif.drive(10, 320)
    assert torch.equal(PLAIN.layer()(x), sk.LIF(0.9)(x))

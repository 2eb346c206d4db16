from __future__ import annotations

import io
import sys

import pytest

from spikekit.measure.activity import LayerActivity
from spikekit.train.metrics import Epoch, Metrics
from spikekit.train.progress import NoProgress, PlainProgress, RichProgress, choose_progress, duration

LAYERS = (LayerActivity("1", "LIF", 10, 100, 10, 3), LayerActivity("3", "LIF", 0, 4, 4, 4))
METRICS = Metrics(0.5, 0.25, 8, LAYERS)


def session(view):
    view.start(4, 10, 1, 0)
    for batch in range(1, 11):
        view.batch(2, batch, lambda: METRICS)
    view.epoch(Epoch(2, 20, 1e-3, 75.0, METRICS, METRICS))
    view.note("kept [brackets]")
    view.stop()


def test_plain_lines():
    stream = io.StringIO()
    session(PlainProgress(stream))
    resumed, line, note = stream.getvalue().splitlines()
    assert resumed == "going on after epoch 1/4"
    for part in ("epoch 2/4", "step 20", "loss 0.5000", "acc 0.250", "val loss", "1:0.100", "3:dead", "1:15", "it/s"):
        assert part in line
    assert "eta" in line
    assert note == "kept [brackets]"


def test_a_live_view():
    console = pytest.importorskip("rich.console").Console(
        file=io.StringIO(), force_terminal=True, width=140, color_system=None
    )
    view = RichProgress(console)
    view.EVERY = 0.0
    session(view)
    text = console.file.getvalue()
    for part in (
        "going on after epoch 1/4",
        "epoch 2/4",
        "7/10",
        "it/s",
        "eta",
        "rates 1:0.100 3:dead",
        "kept [brackets]",
    ):
        assert part in text


def test_a_live_view_measures_a_few_times_a_second():
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), force_terminal=True)
    view, calls = RichProgress(console), []
    view.start(1, 1000, 0, 0)
    for batch in range(1000):
        view.batch(1, batch, lambda: calls.append(1) or METRICS)
    view.stop()
    assert 1 <= len(calls) < 100


def test_the_choice(monkeypatch):
    assert isinstance(choose_progress(False, 0), NoProgress)
    assert isinstance(choose_progress(True, 1), NoProgress)
    assert isinstance(choose_progress(True, 0), PlainProgress)
    own = NoProgress()
    assert choose_progress(own, 0) is own
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(choose_progress(True, 0), RichProgress)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(choose_progress(True, 0), PlainProgress)


def test_training_reports_dead_layers_and_stays_off_stdout(toy, capsys):
    net = toy.network()
    net[0].weight.data.zero_()
    net[1].weight.data.zero_()
    toy.trainer(net, lr=1e-9, progress=True).fit(toy.loader(), epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("epoch 1/1")
    assert "dead: 2 (LIF) never fired this epoch — lower its threshold" in err


def test_views_are_closed_by_errors(toy):
    def fail():
        raise RuntimeError("stop here")

    view = toy.At(1, 2, fail)
    with pytest.raises(RuntimeError, match="stop here"):
        toy.trainer(toy.network(), progress=view).fit(toy.loader(), epochs=1)
    assert view.stopped


@pytest.mark.parametrize(("seconds", "text"), [(4.51, "4.5s"), (62, "1:02"), (3723.4, "1:02:03")])
def test_duration(seconds, text):
    assert duration(seconds) == text

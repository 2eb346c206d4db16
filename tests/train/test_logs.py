from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from spikekit.errors import CheckpointError
from spikekit.measure.activity import LayerActivity
from spikekit.train.logs import CsvLog, TensorBoardLog, open_logs
from spikekit.train.metrics import Epoch, Metrics

LAYERS = (LayerActivity("1", "LIF", 10, 100, 10, 3), LayerActivity("3", "LIF", 1, 4))


def record(number, val=True):
    metrics = Metrics(0.5, 0.25, 8, LAYERS)
    return Epoch(number, number * 10, 0.1, 2.0, metrics, replace(metrics, loss=0.7) if val else None)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_rows(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv", [])
    assert rows(log.path) == []
    log.write(record(1))
    log.write(record(2))
    table = rows(log.path)
    assert [row["epoch"] for row in table] == ["1", "2"]
    expected = {"step": "20", "loss": "0.5", "val_loss": "0.7", "rate/1": "0.1", "dead/1": "3", "rate/3": "0.25"}
    assert expected.items() <= table[1].items()
    assert "dead/3" not in table[1]


def test_a_reopened_table_holds_what_history_holds(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path, [])
    for number in (1, 2, 3):
        log.write(record(number))
    again = CsvLog(path, [record(1), record(2)])
    again.write(record(3))
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]


def test_validation_that_starts_later_gets_its_columns(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv", [record(1, val=False)])
    log.write(record(2))
    log.write(record(3))
    assert [row["val_loss"] for row in rows(log.path)] == ["", "0.7", "0.7"]


def test_an_unwritable_table_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"metrics\.csv: cannot be written"):
        CsvLog(tmp_path / "file" / "metrics.csv", [])


def test_epochs_survive_json():
    for epoch in (record(1), record(2, val=False)):
        assert Epoch.from_json(epoch.to_json()) == epoch


def test_tensorboard(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step, numbers in ((0, (1, 2, 3)), (10, (2,))):
        log = TensorBoardLog(tmp_path, step)
        for number in numbers:
            log.write(record(number))
        log.close()
    events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [
        (10, pytest.approx(0.7)),
        (20, pytest.approx(0.7)),
    ]
    assert "rate/1" in events.Tags()["scalars"]


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [type(log) for log in open_logs(tmp_path, [], 0, None)] == [CsvLog]
    assert [type(log) for log in open_logs(tmp_path, [], 0, False)] == [CsvLog]

"""A run that was killed and resumed ends with the bits of a run that was not."""

from __future__ import annotations

import csv
import json
import signal
from dataclasses import replace

import pytest
import torch

import spikekit as sk
from spikekit.errors import CheckpointError
from spikekit.train.archive import read_archive

KILLS = {
    # After 5 of 9 batches of epoch 2; the last checkpoint holds 4 of them.
    "in an epoch": '{"epochs": 3, "every": 2, "at": [2, 5], "action": "kill"}',
    # The checkpoint after batch 4 of epoch 2 gets half its bytes.
    "while writing": '{"epochs": 3, "every": 2, "at": [2, 3], "action": "kill_while_writing"}',
}


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The run that nobody disturbed: its folder, history and network."""
    torch.set_num_threads(1)
    folder, net = tmp_path_factory.mktemp("whole"), toy.network()
    history = toy.trainer(net, folder).fit(toy.loader(), val(toy), epochs=3)
    return folder, history, net


@pytest.fixture(scope="module")
def killed(start_toy, tmp_path_factory):
    """Folders of the runs that were killed, all at the same time."""
    folders = {name: tmp_path_factory.mktemp("killed") for name in KILLS}
    children = [start_toy(folders[name], options) for name, options in KILLS.items()]
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == -signal.SIGKILL, output
    return folders


def val(toy):
    return toy.loader(shuffle=False, augment=False)


def state(folder):
    """All tensors of the last checkpoint, and the history without the seconds."""
    tensors, info = read_archive(folder / "last.safetensors")
    history = [{**epoch, "seconds": None} for epoch in info["history"]]
    return tensors, history


def assert_same(first, second):
    (tensors, history), (other, other_history) = state(first), state(second)
    assert history == other_history
    assert tensors.keys() == other.keys()
    different = [name for name in tensors if not torch.equal(tensors[name], other[name])]
    assert not different


@pytest.mark.parametrize("kill", KILLS)
def test_killed_and_resumed_is_bit_identical(toy, whole, killed, kill):
    folder = killed[kill]
    view, net = toy.At(), toy.network(seed=99)
    history = toy.trainer(net, folder, progress=view, checkpoint_every=2).fit(toy.loader(), val(toy), epochs=3)
    start = {"in an epoch": (1, 4), "while writing": (1, 2)}[kill]
    assert view.started == (3, 9, *start)
    assert_same(whole[0], folder)
    assert [replace(e, seconds=0) for e in history] == [replace(e, seconds=0) for e in whole[1]]
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert not list(folder.glob(".*"))


def test_a_crash_falls_back_to_the_last_epoch(toy, whole, tmp_path):
    def crash():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        toy.trainer(toy.network(), tmp_path, progress=toy.At(2, 8, crash)).fit(toy.loader(), val(toy), epochs=3)
    view = toy.At()
    toy.trainer(toy.network(seed=9), tmp_path, progress=view).fit(toy.loader(), val(toy), epochs=3)
    assert view.started == (3, 9, 1, 0)
    assert_same(whole[0], tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_saves_and_goes_on_exactly(toy, tmp_path, workers):
    def fit(folder, view, net):
        loader = toy.loader(workers=workers)
        return toy.trainer(net, folder, progress=view).fit(loader, val(toy), epochs=2)

    fit(tmp_path / "whole", toy.At(), toy.network())
    view = toy.At(2, 4, toy.interrupt)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"epoch 2, batch 4; saved to .*last\.safetensors.*resume=True"):
        fit(tmp_path / "cut", view, toy.network())
    assert signal.getsignal(signal.SIGINT) is handler
    assert view.batches[-1] == (2, 4)
    assert view.stopped
    again = toy.At()
    fit(tmp_path / "cut", again, toy.network(seed=99))
    assert again.batches[0] == (2, 5)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_ctrl_c_twice_stops_at_once(toy, tmp_path):
    def twice():
        toy.interrupt()
        toy.interrupt()

    with pytest.raises(KeyboardInterrupt):
        toy.trainer(toy.network(), tmp_path, progress=toy.At(1, 3, twice)).fit(toy.loader(), epochs=1)
    assert not (tmp_path / "last.safetensors").exists()


def test_ctrl_c_without_a_folder_says_so(toy):
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        toy.trainer(toy.network(), progress=toy.At(1, 3, toy.interrupt)).fit(toy.loader(), epochs=1)


def test_a_finished_run_is_loaded_and_can_be_extended(toy, whole, tmp_path):
    folder = tmp_path / "run"
    toy.trainer(toy.network(), folder).fit(toy.loader(), val(toy), epochs=3)
    view, net = toy.At(), toy.network(seed=5)
    history = toy.trainer(net, folder, progress=view).fit(toy.loader(), val(toy), epochs=3)
    assert view.batches == []
    assert len(history) == 3
    assert torch.equal(net[0].weight, whole[2][0].weight)
    longer = toy.trainer(net, folder).fit(toy.loader(), val(toy), epochs=4)
    assert [e.epoch for e in longer] == [1, 2, 3, 4]
    fresh = toy.trainer(net, folder).fit(toy.loader(), val(toy), epochs=1, resume=False)
    assert [e.epoch for e in fresh] == [1]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_other_optimizers_and_schedules_resume(toy, tmp_path, optimizer):
    def fit(folder, view=None):
        options = {
            "optimizer": lambda p: optimizer(p, lr=0.02, weight_decay=0.1),
            "schedule": lambda opt, total: torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=total + 1),
            "progress": view or False,
        }
        return toy.trainer(toy.network(), folder, **options).fit(toy.loader(), epochs=2)

    fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", toy.At(2, 3, toy.interrupt))
    fit(tmp_path / "cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed = 0 and cannot go on with 1"),
        ({"lr": 0.5}, r"lr = \[0\.01\] and cannot go on with \[0\.5\]"),
        ({"schedule": None}, "schedule = 'cosine' and cannot go on with None"),
        ({"loss": sk.train.TET()}, r"loss = .*CrossEntropy\(.* cannot go on with .*TET"),
        ({"clip_norm": 1.0}, "clip_norm = None"),
        ({"precision": "bf16-mixed"}, "precision = '32-true'"),
        ({"config": {"task": {"bins": 4}}}, r"config\.task = None and cannot go on with \{'bins': 4\}"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.01)}, "optimizer = 'Adam' and cannot go on with 'SGD'"),
    ],
)
def test_a_run_goes_on_under_its_own_settings_only(toy, whole, options, words):
    before = (whole[0] / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=words):
        toy.trainer(toy.network(), whole[0], **options).fit(toy.loader(), epochs=3)
    assert (whole[0] / "last.safetensors").read_bytes() == before


def test_another_loader_or_network_is_refused(toy, whole):
    with pytest.raises(CheckpointError, match="batches an epoch = 9 and cannot go on with 18"):
        toy.trainer(toy.network(), whole[0]).fit(toy.loader(batch_size=4), epochs=3)
    with pytest.raises(CheckpointError, match=r"another architecture: '0' is Linear\(.*16.*in the network"):
        toy.trainer(toy.network(hidden=20), whole[0]).fit(toy.loader(), epochs=3)


def test_another_configuration_is_refused_by_its_path(toy, tmp_path):
    def fit(bins):
        config = {"task": {"name": "toy", "shape": (2, bins)}}
        return toy.trainer(toy.network(), tmp_path, config=config).fit(toy.loader(), epochs=1)

    fit(4)
    fit(4)
    with pytest.raises(CheckpointError, match=r"config\.task\.shape = \[2, 4\] and cannot go on with \[2, 5\]"):
        fit(5)


def test_damaged_checkpoints_are_named(toy, whole, tmp_path):
    data = (whole[0] / "last.safetensors").read_bytes()
    last = tmp_path / "last.safetensors"
    for damage in (data[: len(data) // 2], b"", b"{}", data[:2000] + b"x" + data[2001:]):
        last.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"last\.safetensors"):
            toy.trainer(toy.network(), tmp_path).fit(toy.loader(), epochs=3)
        assert last.read_bytes() == damage


def test_weights_alone_are_no_run(toy, tmp_path):
    sk.train.save(toy.network(), tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"does not hold a training run.*resume=False"):
        toy.trainer(toy.network(), tmp_path).fit(toy.loader(), epochs=1)


def test_a_checkpoint_holds_no_pickle(whole):
    data = (whole[0] / "last.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header.pop("__metadata__")) == {"format", "info", "crc32"}
    assert {"rng", "tally", "model/0.weight"} <= set(header)

"""Bad batches, bad losses, bad folders: one clear error each, before anything is spoiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import CheckpointError, InputError, SpikekitError
from spikekit.measure.activity import LayerActivity
from spikekit.train import DivergedError, load_weights
from spikekit.train.guard import LossWatch, advice, check_loader


def batch(toy, x=None, y=None):
    good_x, good_y = toy.collate([toy.Toy(augment=False)[i] for i in range(4)])
    return (good_x if x is None else x(good_x), good_y if y is None else y(good_y))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (None, lambda y: y[:3], r"holds B = 4 samples \(axis 1\), y holds 3$"),
        (lambda x: x.transpose(0, 1), None, r"holds B = 6 .*Axis 0 has that size: use x.transpose\(0, 1\)"),
        (lambda x: x[0], None, r"\[T, B, \.\.\.\]"),
        (lambda x: x.to(torch.uint8), None, "floating point.*uint8"),
        (lambda x: x.numpy(), None, "x and y must be tensors, got ndarray"),
        (lambda x: x[:0], None, r"no time steps \(axis 0\)"),
        (lambda x: x[:, :0], lambda y: y[:0], "or no samples"),
        (lambda x: x[..., :5], None, "needs 12 features on the last axis, got 5"),
        (lambda x: x.index_fill(0, torch.tensor(1), float("nan")), None, "x from the loader holds NaN or Inf"),
        (None, lambda y: y + 2, r"y holds the class [34], the network has the classes 0 to 2"),
        (None, lambda y: y - 3, r"y holds the class -\d, the network"),
        (None, lambda y: y.float(), "class numbers, int64"),
        (None, lambda y: y > 0, "class numbers, int64"),
        (None, lambda y: torch.nn.functional.one_hot(y), r"of shape \(4, 3\)"),
    ],
)
def test_batches_that_do_not_fit(toy, x, y, words):
    net = toy.network()
    before = net[0].weight.clone()
    good, bad = batch(toy), batch(toy, x, y)
    with pytest.raises(InputError, match=words) as caught:
        toy.trainer(net).fit([bad, good], epochs=1)
    assert "epoch 1, batch 1: " in str(caught.value)
    assert torch.equal(net[0].weight, before)
    with pytest.raises(InputError) as caught:
        toy.trainer(toy.network()).fit([good, bad], epochs=1)
    assert "epoch 1, batch 2: " in str(caught.value)
    if "NaN" not in words:
        with pytest.raises(InputError, match="evaluation, batch 2: "):
            toy.trainer(net).evaluate([good, bad])


def test_batches_that_are_no_pairs(toy):
    x, y = batch(toy)
    with pytest.raises(InputError, match=r"must be a pair \(x, y\), got Tensor"):
        toy.trainer(toy.network()).fit([x], epochs=1)
    with pytest.raises(InputError, match=r"must be a pair \(x, y\), got tuple"):
        toy.trainer(toy.network()).fit([(x, y, y)], epochs=1)


def test_small_integer_classes_are_accepted(toy):
    x, y = batch(toy)
    toy.trainer(toy.network()).fit([(x, y.to(torch.uint8))], epochs=1)


def test_loaders_that_are_empty_or_run_dry(toy):
    trainer, good = toy.trainer(toy.network()), batch(toy)
    with pytest.raises(InputError, match="train_loader is empty"):
        trainer.fit([], epochs=1)
    with pytest.raises(InputError, match="train_loader is empty"):
        trainer.fit(torch.utils.data.DataLoader(toy.Toy(), 100, drop_last=True), epochs=1)
    with pytest.raises(InputError, match="val_loader is empty"):
        trainer.fit([good], [], epochs=1)
    with pytest.raises(InputError, match="is an iterator, empty after one epoch"):
        trainer.fit(iter([good]), epochs=1)
    with pytest.raises(InputError, match=r"must yield \(x, y\) batches, got int"):
        trainer.fit(3, epochs=1)
    with pytest.raises(InputError, match="the loader yielded no batches"):
        trainer.evaluate([])

    class Dry:
        turns = 0

        def __iter__(self):
            self.turns += 1
            return iter([good] if self.turns == 1 else [])

    # A loader without a length cannot have a schedule over all steps.
    with pytest.raises(InputError, match="schedule=None"):
        trainer.fit(Dry(), epochs=2)
    with pytest.raises(InputError, match="epoch 2: the train_loader yielded no batches"):
        toy.trainer(toy.network(), schedule=None).fit(Dry(), epochs=2)


def test_networks_that_do_not_give_scores(toy):
    net = sk.Sequential(nn.Linear(toy.FEATURES, 3), nn.Unflatten(1, (3, 1)))
    with pytest.raises(InputError, match=r"must return \[T, B = 4, classes\], got \(6, 4, 3, 1\)"):
        toy.trainer(net).fit([batch(toy)], epochs=1)


def test_a_diverging_loss_names_step_and_rates_and_keeps_the_checkpoint(toy, tmp_path):
    class Explodes:
        calls = 0

        def __call__(self, output, target):
            self.calls += 1
            return output.mean() * (float("inf") if self.calls == 14 else 1.0)

    net = toy.network()
    with pytest.raises(DivergedError) as caught:
        toy.trainer(net, tmp_path, loss=Explodes()).fit(toy.loader(), epochs=3)
    text = str(caught.value)
    for part in ("epoch 2, batch 5 (step 14)", "the loss is", "2 (LIF) 0.", "Lower lr", "last.safetensors"):
        assert part in text
    assert isinstance(caught.value, ArithmeticError)
    assert isinstance(caught.value, SpikekitError)
    assert all(torch.isfinite(p).all() for p in net.parameters())
    record = toy.trainer(toy.network(), tmp_path, loss=Explodes()).fit(toy.loader(), epochs=2)
    assert [e.epoch for e in record] == [1, 2]


def test_weights_that_blew_up_are_named(toy):
    net = toy.network()
    net[4].weight.data[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"epoch 1, batch 1 .*'4\.weight' holds NaN or Inf"):
        toy.trainer(net).fit(toy.loader(), epochs=1)


def test_loss_watch_remembers_the_first_bad_step_until_it_looks():
    watch = LossWatch(every=5)
    answers = [watch.add(torch.tensor(v), k) for k, v in enumerate([1, float("nan"), 2, float("inf"), 3], start=1)]
    assert answers == [None, None, None, None, 2]
    assert watch.look() == 2
    assert LossWatch(every=5).look() is None


def test_a_late_look_stops_before_a_checkpoint_is_written(toy, tmp_path, monkeypatch):
    """As on a GPU: the weights are gone when the loss is looked at, the checkpoint of epoch 1 is not."""
    monkeypatch.setattr("spikekit.train.fit.LossWatch", lambda every: LossWatch(1000))
    loss, calls = toy.sk.train.CrossEntropy(), []

    def breaks(output, target):
        calls.append(1)
        return loss(output, target) * (float("nan") if len(calls) == 18 else 1.0)

    with pytest.raises(DivergedError, match=r"epoch 2, step 18: the loss is not finite.*holds NaN"):
        toy.trainer(toy.network(), tmp_path, loss=breaks).fit(toy.loader(), epochs=3)
    net = toy.network()
    load_weights(net, tmp_path / "last.safetensors")
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_checking_a_loader_starts_no_workers(toy):
    loader = toy.loader(workers=1)
    state = torch.get_rng_state()
    assert check_loader(loader, "train_loader") == 9
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unwritable_run_dir_is_refused_before_training(toy, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written to"):
        toy.trainer(toy.network(), tmp_path / "file" / "run")


def test_advice():
    rows = [
        LayerActivity("3", "LIF", 0, 100),
        LayerActivity("5", "IF", 95, 100),
        LayerActivity("7", "LIF", 10, 100),
        LayerActivity("9", "LIF", 0, 0),
    ]
    dead, saturated = advice(rows)
    assert dead == ("dead: 3 (LIF) never fired this epoch — lower its threshold or raise the gain of the layer before")
    assert saturated.startswith("saturated: 5 (IF) fired in 95% of its steps")

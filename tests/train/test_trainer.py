from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.train import CrossEntropy, cosine, load_weights, read_config, seed_all
from spikekit.train.shard import begin_epoch


def same(net, other):
    a, b = net.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_with_the_defaults(toy):
    net = toy.network()
    history = toy.trainer(net).fit(toy.loader(), toy.loader(shuffle=False, augment=False), epochs=8)
    assert [e.epoch for e in history] == list(range(1, 9))
    assert history[-1].step == 72
    assert history[-1].train.loss < 0.7 * history[0].train.loss
    assert history[-1].val.accuracy > 0.8
    assert history[-1].lr == pytest.approx(0, abs=1e-9)


def test_it_does_what_a_bare_loop_does(toy):
    """Same batches, same weights: the Trainer adds nothing to the arithmetic."""
    net, bare = toy.network(), toy.network()
    toy.trainer(net, seed=3, clip_norm=0.5).fit(toy.loader(), epochs=2)

    loader, loss = toy.loader(), CrossEntropy()
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.01)
    schedule = cosine(optimizer, 2 * len(loader))
    bare.train()
    for epoch in range(2):
        begin_epoch(loader, 3, epoch, 0)
        for x, y in loader:
            optimizer.zero_grad()
            loss(bare(x), y).backward()
            nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
            optimizer.step()
            schedule.step()
    assert same(net, bare)


def test_same_seed_same_weights(toy):
    nets = []
    for seed in (1, 1, 2):
        net = toy.network()
        # What was drawn before must not matter.
        torch.rand(len(nets) + 1)
        toy.trainer(net, seed=seed).fit(toy.loader(workers=2 if seed == 1 else 0), epochs=1)
        nets.append(net)
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])


def test_a_loaders_own_generator_is_seeded_too(toy):
    nets = []
    for _ in range(2):
        nets.append(toy.network())
        loader = torch.utils.data.DataLoader(
            toy.Toy(), 8, shuffle=True, collate_fn=toy.collate, generator=torch.Generator()
        )
        loader.generator.seed()
        toy.trainer(nets[-1]).fit(loader, epochs=1)
    assert same(*nets)


def test_evaluate_measures_and_changes_nothing(toy):
    net = toy.network()
    net[1].eval()
    trainer = toy.trainer(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seed_all(4)
    expected = torch.rand(3)
    seed_all(4)
    metrics = trainer.evaluate(toy.loader(batch_size=5))
    assert torch.equal(torch.rand(3), expected)
    assert metrics == trainer.evaluate(toy.loader(batch_size=5))
    assert [m.training for m in net] == [True, False, True, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

    x, y = toy.collate([toy.Toy(augment=False)[i] for i in range(72)])
    metrics = trainer.evaluate([(x[:, :70], y[:70]), (x[:, 70:], y[70:])])
    with torch.no_grad():
        output = net.eval()(x)
        spikes = sk.record(net, x)[1]["2.spikes"]
    assert metrics.samples == 72
    assert metrics.loss == pytest.approx(CrossEntropy()(output, y).item(), rel=1e-5)
    assert metrics.accuracy == pytest.approx((output.mean(0).argmax(-1) == y).float().mean().item())
    assert metrics.rates == {"2": pytest.approx(spikes.mean().item(), rel=1e-6)}
    assert metrics.layers[0].spikes == spikes.sum().item()


def test_validation_does_not_change_training(toy):
    nets = [toy.network(), toy.network()]
    histories = [
        toy.trainer(nets[0]).fit(toy.loader(), epochs=2),
        toy.trainer(nets[1]).fit(toy.loader(), toy.loader(), epochs=2),
    ]
    assert same(*nets)
    assert [e.train for e in histories[0]] == [e.train for e in histories[1]]


def test_training_metrics_are_those_of_the_batches(toy):
    """With frozen weights the epoch's means must be those of an evaluation in train mode."""
    net = toy.network()
    net[3].p = 0.0
    trainer = toy.trainer(net, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    batches = [toy.collate([toy.Toy(augment=False)[i] for i in range(k, k + 9)]) for k in range(0, 72, 9)]
    record = trainer.fit(batches, epochs=1)[0]
    losses = [CrossEntropy()(net(x), y).item() for x, y in batches]
    assert record.train.loss == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    assert record.train.layers[0].neuron_steps == 72 * toy.STEPS * 16


def test_optimizers_and_schedules_of_the_user(toy):
    net = toy.network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    trainer = toy.trainer(
        net,
        optimizer=optimizer,
        schedule=lambda opt, total: torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=total + 1),
    )
    history = trainer.fit(toy.loader(), epochs=2)
    assert optimizer.state[net[0].weight]["momentum_buffer"].abs().sum() > 0
    assert history[-1].lr == optimizer.param_groups[0]["lr"] < 0.01
    assert toy.trainer(net, schedule=None).fit(toy.loader(), epochs=1)[0].lr == 0.01


def test_clipping_bounds_the_step(toy):
    net = toy.network()
    before = net[0].weight.clone()
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=1.0), "schedule": None}
    toy.trainer(net, clip_norm=1e-6, **options).fit(toy.loader(batch_size=72), epochs=1)
    assert 0 < (net[0].weight - before).norm() <= 1.01e-6


def test_mixed_precision(toy):
    net = toy.network()
    history = toy.trainer(net, precision="bf16-mixed").fit(toy.loader(), epochs=2)
    assert net[0].weight.dtype == torch.float32
    exact = toy.trainer(toy.network()).fit(toy.loader(), epochs=2)
    assert history[-1].train.loss != exact[-1].train.loss
    assert history[-1].train.loss == pytest.approx(exact[-1].train.loss, rel=0.1)


# Dynamo itself looks at .grad of the tensors that it carries over a graph break.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_network(toy, tmp_path):
    net = toy.network()
    history = toy.trainer(torch.compile(net, backend="eager"), tmp_path).fit(toy.loader(), epochs=2)
    plain = toy.network()
    assert toy.trainer(plain).fit(toy.loader(), epochs=2)[-1].train == history[-1].train
    assert same(net, plain)
    load_weights(toy.network(), tmp_path / "last.safetensors")


def test_networks_without_spikes_train_too(toy):
    net = sk.Sequential(nn.Linear(toy.FEATURES, toy.CLASSES), sk.LI())
    record = toy.trainer(net).fit(toy.loader(), epochs=1)[0]
    assert record.train.layers == ()


def test_the_best_weights_are_kept(toy, tmp_path):
    net = toy.network()
    val = toy.loader(shuffle=False, augment=False)

    def worse_at_the_end(optimizer, total):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 if step < 0.8 * total else 1000)

    trainer = toy.trainer(net, tmp_path, schedule=worse_at_the_end, config={"a": [1]})
    history = trainer.fit(toy.loader(), val, epochs=6)
    accuracies = [e.val.accuracy for e in history]
    assert max(accuracies) > accuracies[-1]
    load_weights(net, tmp_path / "best.safetensors")
    assert trainer.evaluate(val).accuracy == max(accuracies)
    assert read_config(tmp_path / "best.safetensors") == read_config(tmp_path / "last.safetensors") == {"a": [1]}


def test_a_second_fit_without_a_run_dir_starts_a_new_schedule(toy):
    trainer = toy.trainer(toy.network())
    trainer.fit(toy.loader(), epochs=1)
    again = trainer.fit(toy.loader(), epochs=2)
    assert [e.epoch for e in again] == [1, 2]
    assert again[0].lr == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, "lr must be > 0"),
        ({"lr": float("nan")}, "lr must be > 0"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"precision": "12-bit"}, "cannot be used as asked.*12-bit"),
        ({"accelerator": "abacus"}, "cannot be used as asked"),
        ({"accelerator": "tpu"}, "cannot be used as asked"),
    ],
)
def test_settings_that_cannot_work(toy, options, words):
    with pytest.raises(InputError, match=words):
        toy.trainer(toy.network(), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "cosine-ish"}, "schedule must be 'cosine'"),
        ({"optimizer": lambda p: 3}, "it made a int"),
        ({"loss": lambda output, target: output}, "the loss must be one number"),
    ],
)
def test_parts_that_cannot_work(toy, options, words):
    with pytest.raises(InputError, match=words):
        toy.trainer(toy.network(), **options).fit(toy.loader(), epochs=1)


def test_nothing_to_train(toy):
    with pytest.raises(InputError, match="no parameter to train"):
        toy.trainer(sk.Sequential(sk.LIF())).fit(toy.loader(), epochs=1)
    with pytest.raises(InputError, match="epochs must be at least 1"):
        toy.trainer(toy.network()).fit(toy.loader(), epochs=0)

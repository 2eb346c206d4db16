from __future__ import annotations

import csv
import signal

import pytest
import torch

import spikekit as sk
from spikekit.errors import CheckpointError, InputError
from spikekit.language import TextSettings, load_language_model
from spikekit.language import trainer as module
from spikekit.train import DivergedError


def test_it_learns(make):
    history = make(steps=60).fit()
    assert [record.step for record in history] == [20, 40, 60]
    assert history[-1].valid_bits < 0.75 * history[0].valid_bits
    assert history[-1].tokens == 60 * 4 * 20


def test_a_resumed_run_ends_with_the_bits_of_one_never_stopped(make, tmp_path, monkeypatch):
    whole = make(tmp_path / "whole")
    whole.fit()
    stopped = make(tmp_path / "stopped")
    steps = []

    def stop(trainer):
        steps.append(trainer._step)
        if trainer._step == 17:
            raise KeyboardInterrupt

    # Step 17 is in the middle of the text: the last checkpoint, of step 10, holds the carried state.
    monkeypatch.setattr(type(stopped), "_show", lambda trainer, whole=False: stop(trainer))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    monkeypatch.undo()
    again = make(tmp_path / "stopped", seed=5)
    history = again.fit()
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    assert [r.valid_bits for r in history] == [r.valid_bits for r in whole.history]
    assert make(tmp_path / "stopped").fit() == history


def test_the_first_ctrl_c_saves_and_says_how_to_go_on(make, tmp_path, monkeypatch, capsys):
    trainer = make(tmp_path)
    trainer._quiet = False
    monkeypatch.setattr(
        type(trainer),
        "_show",
        lambda self, whole=False: signal.raise_signal(signal.SIGINT) if self._step == 17 and not whole else None,
    )
    with pytest.raises(KeyboardInterrupt, match="interrupted after 17 steps"):
        trainer.fit()
    assert f"saved to {tmp_path / 'last.safetensors'}; the same command" in capsys.readouterr().err
    monkeypatch.undo()
    again = make(tmp_path)
    again._load(tmp_path / "last.safetensors")
    assert again._step == 17


def test_the_state_is_carried_and_starts_again_with_the_text(make, monkeypatch):
    states = []
    true = sk.run

    def seen(net, x, state=None):
        states.append(state)
        return true(net, x, state)

    monkeypatch.setattr(module, "run", seen)
    trainer = make(steps=len(make().streams) + 2)
    trainer.fit()
    expected = [i % len(trainer.streams) != 0 for i in range(trainer.settings.steps)]
    assert [state is not None for state in states] == expected
    assert not any(v.requires_grad for state in states if state for part in state.values() for v in part.values())


def test_what_is_left_on_disk(make, tmp_path, tokenizer):
    trainer = make(tmp_path)
    trainer.fit()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20, 30]
    net, same, config = load_language_model(tmp_path)
    assert not net.training
    assert config["language"]["model"] == "astro_lm"
    x = tokenizer.encode("the quick")[:, None]
    assert torch.equal(same.encode("the quick"), x[:, 0])
    assert torch.equal(net(x), trainer.net.eval()(x))


def test_seconds(make):
    history = make(steps=None, seconds=0.3, clock="cpu").fit()
    assert len(history) == 3
    assert history[-1].seconds >= 0.3
    assert history[0].seconds < 0.3


def test_other_settings_cannot_go_on(make, tmp_path):
    make(tmp_path).fit()
    with pytest.raises(CheckpointError, match="started with settings"):
        make(tmp_path, lr=1e-3).fit()
    assert make(tmp_path, lr=1e-3, steps=3).fit(resume=False)[-1].step == 3


def test_a_loss_that_is_not_finite_is_told(make):
    trainer = make()
    with torch.no_grad():
        trainer.net.readout.weight.fill_(torch.inf)
    with pytest.raises(DivergedError, match=r"step 1: the loss is nan and '.*weight' holds"):
        trainer.fit()


def test_a_loss_that_is_not_finite_costs_no_weights(make):
    trainer = make()
    with torch.no_grad():
        trainer.net.readout.weight.fill_(3e38)
    before = {name: value.clone() for name, value in trainer.net.named_parameters()}
    with pytest.raises(DivergedError, match="step 1: the loss is"):
        trainer.fit()
    for name, value in trainer.net.named_parameters():
        assert torch.equal(value, before[name]), name
    assert trainer._state is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "steps or seconds, one of the two"),
        ({"steps": 3, "seconds": 1.0}, "one of the two"),
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"steps": 1.5}, "steps must be a whole number above 0, got 1.5"),
        ({"steps": 3, "judge": 0.5}, "judge must be a whole number above 0, got 0.5"),
        ({"steps": 3, "judge": True}, "judge must be a whole number above 0, got True"),
        ({"steps": 3, "lr": 0.0}, "lr must be above 0"),
        ({"steps": 3, "warmup": 1.0}, "warmup must be 0 or more and below 1"),
        ({"steps": 3, "clock": "sun"}, "clock must be 'wall' or 'cpu'"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(InputError, match=message):
        TextSettings(**values)


def test_the_rate_rises_and_falls():
    settings = TextSettings(steps=100, lr=1.0, warmup=0.1)
    rates = [settings.rate(i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(rates[10], abs=0.03)
    assert rates[:10] == sorted(rates[:10])
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


def test_a_checkpoint_of_something_else(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_language_model(tmp_path)
    from spikekit.train import save

    save(torch.nn.Linear(2, 2), tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="holds no language model"):
        load_language_model(tmp_path)

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import CheckpointError, InputError
from spikekit.train import load_weights, read_config, save

CONFIG = {"model": {"name": "toy", "args": {"hidden": 16}}, "data": {"seed": 1}}


def conv(stride=1, channels=4, reset="soft", beta=0.9, extra=(), dropout=0.1):
    return sk.Sequential(
        nn.Conv2d(2, channels, 3, stride=stride),
        sk.LIF(beta, reset=reset),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(channels * 16, 3),
        *extra,
    )


def test_save_and_load(tmp_path):
    path = tmp_path / "deep" / "net.safetensors"
    torch.manual_seed(0)
    net = conv(beta=0.7)
    save(net, path, CONFIG)
    torch.manual_seed(1)
    other = conv(beta=0.9, dropout=0.5)
    load_weights(other, path)
    x = torch.rand(3, 2, 2, 6, 6)
    assert torch.equal(net.eval()(x), other.eval()(x))
    assert other[1].beta.item() == pytest.approx(0.7)
    assert read_config(path) == CONFIG


def test_without_a_config(tmp_path):
    save(conv(), tmp_path / "net.safetensors")
    assert read_config(tmp_path / "net.safetensors") == {}


def test_a_compiled_network_is_saved_under_its_own_names(tmp_path):
    net = conv()
    save(torch.compile(net, backend="eager"), tmp_path / "net.safetensors")
    load_weights(conv(), tmp_path / "net.safetensors")
    load_weights(torch.compile(conv(), backend="eager"), tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: conv(channels=5), r"'0' is Conv2d\(2, 4, .*in the checkpoint and Conv2d\(2, 5, "),
        (lambda: conv(stride=2), r"stride=\(1, 1\).*stride=\(2, 2\)"),
        (lambda: conv(reset="hard"), r"'1' is LIF\(.*reset='soft'.*reset='hard'"),
        (lambda: conv(extra=[sk.LI()]), r"the network has a module '5' \(LI\) that the checkpoint lacks"),
        (lambda: sk.Sequential(*list(conv())[:-1]), r"the checkpoint has a module '4' \(Linear\)"),
        (lambda: sk.Sequential(conv()[0], sk.IF()), r"has '1' \(LIF\) where the network has '1' \(IF\)"),
    ],
)
def test_another_architecture_is_one_clear_error(tmp_path, other, words):
    path = tmp_path / "net.safetensors"
    save(conv(), path)
    net = other()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as caught:
        load_weights(net, path)
    assert str(path) in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_settings_may_differ_when_asked(tmp_path):
    path = tmp_path / "net.safetensors"
    save(conv(), path)
    load_weights(conv(reset="hard"), path, strict=False)
    with pytest.raises(CheckpointError, match=r"'0\.weight' is of shape \(4, 2, 3, 3\).*\(5, 2, 3, 3\)"):
        load_weights(conv(channels=5), path, strict=False)


def test_learnable_and_fixed_parameters_are_different_networks(tmp_path):
    path = tmp_path / "net.safetensors"
    save(sk.Sequential(sk.LIF()), path)
    with pytest.raises(CheckpointError, match=r"'0\.beta' is of shape \(\) .* absent in the network"):
        load_weights(sk.Sequential(sk.LIF(learn=("beta",))), path)


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Odd(nn.Module):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(InputError, match="_extra_state"):
        save(Odd(), tmp_path / "net.safetensors")


def test_unwritable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(conv(), tmp_path / "file" / "net.safetensors")

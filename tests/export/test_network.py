from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import LoihiNet, layer_reports, to_loihi
from spikekit.export.plan import plan
from spikekit.export.tables import layer_table
from spikekit.ops import paths
from tests.export.nets import conv_net, frames


@pytest.fixture
def chip():
    return to_loihi(conv_net(), frames())


def test_the_integer_network_follows_the_float_network(chip):
    x = frames(batch=20, seed=3)
    with torch.no_grad():
        exact = conv_net()(x)
    error = (chip.simulate(x) - exact).abs().mean() / exact.abs().mean()
    assert chip.simulate(x).shape == exact.shape
    assert error < 0.1


def test_a_spiking_last_layer_gives_its_spikes():
    chip = to_loihi(conv_net()[:3], frames())
    y = chip.simulate(frames())
    assert y.shape == (9, 6, 4, 4, 4)
    assert set(y.unique().tolist()) == {0.0, 1.0}


def test_save_and_load_keep_everything(chip, tmp_path):
    path = chip.save(tmp_path / "deep" / "net.npz")
    again = LoihiNet.load(path)
    x = frames(seed=5)
    for a, b in zip(chip.trace(x) + chip.trace_float(x), again.trace(x) + again.trace_float(x), strict=True):
        assert torch.equal(a.spikes, b.spikes)
        assert torch.equal(a.membranes, b.membranes)
    assert again.in_shape == (2, 8, 7)
    assert list(tmp_path.glob("deep/*")) == [path]


def test_damaged_files_are_refused(chip, tmp_path):
    path = chip.save(tmp_path / "net.npz")
    whole = path.read_bytes()
    for name, content in {
        "cut.npz": whole[: len(whole) // 2],
        "page.npz": b"<!DOCTYPE html><html>not found</html>",
        "empty.npz": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExportError, match=name):
            LoihiNet.load(tmp_path / name)
    np.savez(tmp_path / "other.npz", meta=np.array(json.dumps({"format": "something else"})))
    with pytest.raises(ExportError, match="something else"):
        LoihiNet.load(tmp_path / "other.npz")
    with pytest.raises(ExportError, match="no such file"):
        LoihiNet.load(tmp_path / "absent.npz")


def test_an_unwritable_folder_is_refused_and_leaves_nothing(chip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="cannot be written"):
        chip.save(tmp_path / "file" / "net.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(9, 6, 2, 8, 8), r"must be \[T, B, 2, 8, 7\]"),
        (torch.zeros(0, 6, 2, 8, 7), "T, B > 0"),
        (torch.zeros(2, 8, 7), r"must be \[T, B"),
        (torch.full((9, 6, 2, 8, 7), 0.5), "fractions"),
        (torch.full((9, 6, 2, 8, 7), float("nan")), "NaN or Inf"),
        (torch.full((9, 6, 2, 8, 7), float("-inf")), "NaN or Inf"),
        (np.zeros((9, 6, 2, 8, 7)), "must be a torch.Tensor, got ndarray"),
    ],
)
def test_input_is_checked(chip, x, message):
    with pytest.raises(InputError, match=message):
        chip.simulate(x)


@pytest.mark.parametrize("headroom", [0.5, float("inf"), float("nan")])
def test_headroom_is_checked(headroom):
    with pytest.raises(InputError, match="headroom must be a number of at least 1"):
        to_loihi(conv_net(), frames(), headroom=headroom)


def test_calibration_is_checked():
    with pytest.raises(InputError, match=r"calibration must be a torch.Tensor, got ndarray"):
        to_loihi(conv_net(), frames().numpy())


def test_a_plan_that_misreads_the_network_is_not_exported(monkeypatch):
    def misread(net, sample):
        found = plan(net, sample)
        *layers, last = found.layers
        return replace(found, layers=(*layers, replace(last, bias=last.bias + 0.01)))

    monkeypatch.setattr("spikekit.export.network.plan", misread)
    with pytest.raises(ExportError, match="the plan does not repeat the network: outputs differ by up to"):
        to_loihi(conv_net(), frames())


def test_ties_between_membrane_and_threshold_are_no_misreading():
    """Ten synapses of 0.1 sum to 1.0 or just below, as the order of the sum has it."""
    net = sk.Sequential(
        nn.Flatten(), nn.Linear(112, 4, bias=False), sk.IF(1.0, inclusive=True), nn.Linear(4, 2), sk.LI()
    )
    nn.init.constant_(net[1].weight, 0.1)
    assert to_loihi(net, frames()).layers[0].name == "2"


def test_notes_are_kept(chip, tmp_path):
    noted = to_loihi(conv_net(), frames(), notes={"task": {"data": "nmnist", "bins": 10}})
    assert LoihiNet.load(noted.save(tmp_path / "net.npz")).notes == {"task": {"data": "nmnist", "bins": 10}}
    assert LoihiNet.load(chip.save(tmp_path / "plain.npz")).notes == {}


def test_an_unknown_backend_is_refused(chip):
    with pytest.raises(InputError, match="unknown backend 'loihi'"):
        chip.verify(frames(), "loihi")


def test_reports_add_up(chip):
    x = frames()
    rows = layer_reports(chip, x)
    spikes = chip.trace(x)
    assert [row.neurons for row in rows] == [64, 12, 3]
    assert rows[2].synapses == np.count_nonzero(chip.layers[2].inputs[0].synapses.weight)
    matrix = torch.from_numpy(chip.layers[2].inputs[0].synapses.weight != 0).double()
    by_hand = (spikes[1].spikes.double() @ matrix.T).sum() / x.shape[1]
    assert rows[2].synaptic_operations == pytest.approx(float(by_hand))
    assert rows[0].firing_rate == pytest.approx(float(spikes[0].spikes.double().mean()))
    text = layer_table(rows)
    assert text.count("\n") == 5
    assert "total" in text


def test_simulate_is_the_last_layer_of_trace_whatever_the_pieces(chip, monkeypatch):
    x = frames(batch=7, seed=3)
    whole = chip.simulate(x)
    monkeypatch.setattr("spikekit.export.integer._PIECE", 1)
    assert torch.equal(chip.simulate(x), whole)
    last = chip.trace(x)[-1].membranes / torch.from_numpy(chip.layers[-1].unit)
    assert torch.equal(whole, last.float())


def test_a_layer_with_groups_of_channels_is_simulated():
    net = sk.Sequential(nn.Conv2d(2, 4, 3, groups=2), sk.LIF(0.8, 0.5), nn.Flatten(), nn.Linear(120, 2), sk.LI()).eval()
    chip = to_loihi(net, frames())
    x = frames(seed=2)
    synapses = chip.layers[0].inputs[0].synapses
    weight = np.zeros((synapses.n_out, synapses.n_in))
    post, pre, values = synapses.connections
    weight[post, pre] = values
    sums = torch.from_numpy(weight) @ x.flatten(2).double().flatten(0, 1).t()
    spikes = chip.trace(x)[0].spikes
    first = (sums.t().unflatten(0, x.shape[:2])[0] * 2.0 ** (chip.layers[0].exponent + 6)) + torch.from_numpy(
        chip.layers[0].bias
    )
    assert torch.equal(spikes[0], first > torch.from_numpy(chip.layers[0].threshold << 6))


def test_a_file_of_another_format_says_so(chip, tmp_path):
    path = chip.save(tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays["meta"])) | {"format": "spikekit.LoihiNet/1"}
    np.savez(path, **arrays | {"meta": np.array(json.dumps(meta))})
    with pytest.raises(ExportError, match=r"net.npz: format 'spikekit.LoihiNet/1' is not .*export the network again"):
        LoihiNet.load(path)


@pytest.mark.parametrize("path", ["reference", "torch"])
def test_without_kernels_the_numbers_are_the_same(chip, path, monkeypatch):
    x = frames(batch=4, seed=8)
    fast = chip.trace(x)
    monkeypatch.setattr(paths, "_choice", path)
    for a, b in zip(fast, chip.trace(x), strict=True):
        assert torch.equal(a.spikes, b.spikes)
        assert torch.equal(a.membranes, b.membranes)
        assert torch.equal(a.last, b.last)
        assert torch.equal(a.peak_drive, b.peak_drive)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_spikes_of_any_type_are_the_same_spikes(chip, dtype):
    x = frames(batch=4, seed=8)
    assert torch.equal(chip.simulate(x.to(dtype)), chip.simulate(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"notes": {"a": torch.ones(1)}}, "notes must be plain JSON values"),
        ({"thresholds": ["neuron"]}, "thresholds must be one of"),
        ({"thresholds": ""}, "thresholds must be one of"),
        ({"weight_bits": 4.0}, "weight_bits must be a whole number"),
        ({"headroom": "2"}, "headroom must be a number"),
    ],
)
def test_settings_of_another_kind_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        to_loihi(conv_net(), frames(), **settings)


def test_calibration_of_fractions_or_another_width_is_named():
    with pytest.raises(InputError, match="to_loihi: calibration: the input holds fractions"):
        to_loihi(conv_net(), frames() * 0.5)
    net = sk.Sequential(nn.Flatten(), nn.Linear(20, 3), sk.LI()).eval()
    with pytest.raises(ExportError, match=r"layer 1 \(Linear\) takes 20 features and sees the shape \(112,\)"):
        to_loihi(net, frames())


def test_damaged_files_are_named(chip, tmp_path):
    path = chip.save(tmp_path / "net.npz")
    whole = bytearray(path.read_bytes())
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in torch.randint(len(whole), (3,), generator=generator).tolist():
            damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(ExportError):
            LoihiNet.load(path)

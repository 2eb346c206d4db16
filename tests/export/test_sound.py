"""Files that are damaged, or do not fit together, are refused when they are opened, with one error."""

from __future__ import annotations

import json
import random
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import LoihiNet, to_loihi
from tests.export.nets import conv_net, frames


@pytest.fixture(scope="module")
def chip():
    pooled = [nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Flatten(), nn.Linear(16, 3), sk.LI()]
    return to_loihi(sk.Sequential(*conv_net()[:3], *pooled[:1], sk.LIF(0.5, 0.1), *pooled[1:]).eval(), frames())


@pytest.fixture
def saved(chip, tmp_path):
    return chip.save(tmp_path / "net.npz")


def contents(path):
    with np.load(path) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta")))


def refused(path, arrays, meta):
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one"):
        LoihiNet.load(path)


def test_what_was_saved_is_sound(chip, saved):
    kinds = {each.synapses.kind for layer in chip.layers for each in layer.inputs}
    assert kinds == {"conv", "sparse", "dense"}
    assert torch.equal(LoihiNet.load(saved).simulate(frames()), chip.simulate(frames()))


def test_every_array_is_needed_and_has_its_type_and_shape(saved, tmp_path):
    arrays, meta = contents(saved)
    for name, array in arrays.items():
        other = tmp_path / "other.npz"
        refused(other, {key: value for key, value in arrays.items() if key != name}, meta)
        refused(other, {**arrays, name: array.ravel()[:-1]}, meta)
        refused(other, {**arrays, name: array.astype(np.float32)}, meta)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("layers",), []),
        (("in_shape", 0), None),
        (("in_shape",), []),
        (("notes",), 3),
        (("layers", 0, "exponent"), 8),
        (("layers", 0, "exponent"), None),
        (("layers", 0, "fires"), None),
        (("layers", 0, "reset"), "sideways"),
        (("layers", 0, "weight_bits"), 9),
        (("layers", 0, "period"), -1),
        (("layers", 0, "inputs"), []),
        (("layers", 0, "inputs", 0, "source"), 0),
        (("layers", 1, "inputs", 0, "source"), 2),
        (("layers", 0, "inputs", 0, "shift"), -1),
        (("layers", 0, "inputs", 0, "synapses", "kind"), "dense"),
        (("layers", 0, "inputs", 0, "synapses", "kind"), "other"),
        (("layers", 0, "inputs", 0, "synapses", "stride"), [0, 1]),
        (("layers", 0, "inputs", 0, "synapses", "padding"), [1]),
        (("layers", 0, "inputs", 0, "synapses", "groups"), 3),
        (("layers", 0, "inputs", 0, "synapses", "out_shape"), [4, 4, 3]),
        (("plan", 2, "inputs", 0, "synapses", "in_shape"), [3]),
    ],
)
def test_values_that_do_not_fit(saved, tmp_path, place, value):
    arrays, meta = contents(saved)
    found = meta
    for key in place[:-1]:
        found = found[key]
    assert found[place[-1]] != value
    found[place[-1]] = value
    refused(tmp_path / "other.npz", arrays, meta)


def test_ends_beyond_the_layer_or_out_of_order(saved, tmp_path):
    arrays, meta = contents(saved)
    name = next(key for key in arrays if key.endswith("ends"))
    for change in (lambda ends: ends[:, ::-1], lambda ends: ends + 1000, lambda ends: ends - 1):
        refused(tmp_path / "other.npz", {**arrays, name: change(arrays[name])}, meta)


def test_flipped_bits_change_nothing_or_are_refused(chip, saved):
    """Whatever zipfile, zlib and numpy raise on the way."""
    whole, draw, wanted = saved.read_bytes(), random.Random(0), chip.simulate(frames())
    for _ in range(150):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        saved.write_bytes(data)
        try:
            found = LoihiNet.load(saved)
        except ExportError:
            continue
        assert torch.equal(found.simulate(frames()), wanted)


def test_a_file_that_claims_more_than_memory_holds(tmp_path):
    path = tmp_path / "net.npz"
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("meta.npy", b"\x93NUMPY\x01\x00v\x00" + head)
    with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one"):
        LoihiNet.load(path)


def test_notes_that_json_does_not_know(chip, tmp_path):
    odd = replace(chip, notes={"data": torch.ones(1)})
    with pytest.raises(ExportError, match="notes must be plain JSON values"):
        odd.save(tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())


def test_a_layer_that_names_itself_as_one_before_it(tmp_path):
    """Its own spikes are source -2, of the step before."""
    chip = to_loihi(sk.Sequential(nn.Linear(3, 3), sk.LIF(0.5, 0.1)).eval(), torch.ones(2, 1, 3))
    arrays, meta = contents(chip.save(tmp_path / "net.npz"))
    meta["layers"][0]["inputs"][0]["source"] = 0
    refused(tmp_path / "other.npz", arrays, meta)

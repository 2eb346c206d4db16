"""What an export takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import qat, to_loihi
from spikekit.export.inputs import check_whole, largest
from spikekit.interop import to_nir


@pytest.mark.parametrize(
    ("dtype", "low", "most"),
    [(torch.int8, -128, 128), (torch.int16, -32768, 32768), (torch.uint8, 0, 255), (torch.float32, -3, 7)],
)
def test_the_largest_of_every_dtype(dtype, low, most):
    high = most if low != -128 and low != -32768 else 5
    assert largest(torch.tensor([low, high, 1]).to(dtype)) == most


def test_booleans_count_as_one():
    assert largest(torch.tensor([False, True])) == 1
    check_whole(torch.ones(2, 1, 3, dtype=torch.bool), (3,), "net")


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, 1, 3, dtype=torch.complex64),
        torch.ones(2, 1, 3).to_sparse(),
        torch.ones(2, 1, 3, device="meta"),
    ],
)
def test_what_holds_no_real_numbers_is_refused(x):
    with pytest.raises(InputError, match="net: the input must hold real numbers, dense and in memory"):
        check_whole(x, (3,), "net")


@pytest.mark.parametrize("export", [to_loihi, qat, to_nir])
def test_what_is_no_network_with_weights_outside_of_a_session(export):
    net, x = sk.Sequential(nn.Linear(3, 2), sk.LIF()).eval(), torch.ones(2, 1, 3)
    with pytest.raises(InputError, match=rf"{export.__name__}: net must be a torch\.nn\.Module, got str"):
        export("net", x)
    with pytest.raises(InputError, match=rf"{export.__name__}: 0\.weight is on the meta device"):
        export(sk.Sequential(nn.Linear(3, 2, device="meta"), sk.LIF()).eval(), x)

    class Exporting(nn.Module):
        def forward(self, x):
            return export(net, x)

    with pytest.raises(ExportError, match=rf"{export.__name__} was called inside run\(\) or record\(\)"):
        sk.run(Exporting(), x)


def test_integers_are_not_quantised_again():
    net, x = sk.Sequential(nn.Linear(3, 2), sk.LIF()).eval(), torch.ones(2, 1, 3)
    with pytest.raises(InputError, match="qat: this network computes in integers already"):
        qat(qat(net, x), x)


@pytest.mark.parametrize("notes", [[1], "ab", 3])
def test_notes_are_values_by_name(notes):
    net, x = sk.Sequential(nn.Linear(3, 2), sk.LIF()).eval(), torch.ones(2, 1, 3)
    with pytest.raises(InputError, match="notes must be plain JSON values by name, got"):
        to_loihi(net, x, notes=notes)

"""What an export cannot read: a language model, and a file that is none of ours."""

from __future__ import annotations

import pytest
import torch

from spikekit.errors import ExportError, InputError
from spikekit.export import LoihiNet, qat, to_loihi
from spikekit.models import AstroLM, AstroLMConfig


def test_a_language_model_says_that_it_does_not_export():
    net = AstroLM(AstroLMConfig(50, width=16, layers=1)).eval()
    for export in (to_loihi, qat):
        with pytest.raises(ExportError, match="AstroLM reads tokens, by the Embedding 'embed'"):
            export(net, torch.randint(0, 50, (20, 3)))
    for tokens, found in ((torch.tensor([[0, -1]]), "-1"), (torch.tensor([[50], [3]]), "50")):
        with pytest.raises(InputError, match=rf"AstroLM: a token is {found}, and the vocabulary has 50, 0 to 49"):
            net(tokens)


def test_junk_is_no_network(tmp_path):
    (tmp_path / "junk.npz").write_bytes(b"junk, and no archive")
    with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one; export the network again"):
        LoihiNet.load(tmp_path / "junk.npz")

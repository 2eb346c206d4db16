"""The presets have the settings of their papers, and any of them may be changed."""

from __future__ import annotations

import torch

import spikekit as sk


def test_inflor_snn():
    lif = sk.presets.inflor_snn()
    assert (float(lif.beta), float(lif.threshold), float(lif.reset_quantum)) == (1.0, 0.5, 1.0)
    assert (lif.rule.reset, lif.rule.detach_reset, lif.rule.inclusive) == ("soft", False, False)
    assert lif.rectifier == sk.MPR(3.0)
    assert lif.rule.surrogate == sk.surrogate.SechBump(3.0, 1.0)
    _, state = sk.run(lif, torch.full((1, 1, 1), 0.6))
    assert abs(float(state[""]["v"]) + 0.4) < 1e-6


def test_mpbn():
    lif = sk.presets.mpbn((4, 3, 3))
    assert (float(lif.beta), float(lif.threshold)) == (0.25, 0.5)
    assert (lif.rule.reset, lif.rule.detach_reset, lif.rule.inclusive) == ("hard", False, False)
    assert lif.rule.surrogate == sk.surrogate.SechBump(3.0, 1.0)
    assert (lif.norm.shape, lif.norm.eps, lif.norm.momentum) == ((4, 3, 3), 1e-5, 0.1)


def test_settings_can_be_changed():
    lif = sk.presets.inflor_snn(beta=0.5, norm=sk.MPBN(3))
    assert float(lif.beta) == 0.5
    assert lif.norm.shape == (3,)
    assert sk.presets.mpbn(3, reset="soft").reset == "soft"
    assert sk.presets.mpbn(3, norm=sk.MPBN(3, positive=True)).norm.positive


def test_ems():
    lif = sk.presets.ems()
    assert (float(lif.beta), float(lif.threshold)) == (0.25, 0.5)
    assert (lif.rule.reset, lif.rule.detach_reset, lif.rule.inclusive) == ("hard", True, False)
    assert lif.rule.surrogate == sk.surrogate.Rectangle(1.0)

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.viz import calcium

TEXT = "a $b\n"


def test_the_liveliest_trace_of_each_range_of_time_scales_is_drawn(tmp_path):
    traces = torch.stack([k * torch.arange(5.0) for k in (1.0, 3.0, 2.0, -4.0)], 1)
    times = torch.tensor([5.0, 6.0, 400.0, 500.0])
    spikes = torch.eye(5, 3).bool()
    figure = calcium(traces, times, spikes, list(TEXT), lines=4, title="a text")
    above, below = figure.axes
    drawn = [line for line in above.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in drawn] == ["6 steps", "500 steps"]
    assert np.array_equal(drawn[1].get_ydata(), traces[:, 3].numpy())
    assert np.array_equal(np.asarray(below.images[0].get_array()), spikes.T.float().numpy())
    assert [label.get_text() for label in below.get_xticklabels()] == ["a", "␣", r"\$", "b", "↵"]
    assert below.get_title() == "20.0% of the neurons fire a step"
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000


def test_one_trace_and_long_names_of_steps():
    figure = calcium(torch.zeros(2, 1), torch.tensor([7.0]), torch.zeros(2, 4), ["the", "quick"])
    above, below = figure.axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["7 steps"]
    assert {label.get_rotation() for label in below.get_xticklabels()} == {90.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traces": torch.zeros(5, 2, 3)}, "index the batch first"),
        ({"timescales": torch.ones(4)}, r"timescales \[n\], got \[5, 3\] and \[4\]"),
        ({"spikes": torch.zeros(4, 2)}, "5 steps of calcium, spikes \\[4, 2\\] and 5 names"),
        ({"steps": "abc"}, "3 names of steps"),
        ({"lines": 0}, "lines must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    given = {"traces": torch.zeros(5, 3), "timescales": torch.ones(3), "spikes": torch.zeros(5, 2), "steps": TEXT}
    with pytest.raises(InputError, match=message):
        calcium(**(given | change))

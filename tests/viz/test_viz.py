from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.viz import events, forgetting, membranes, overview, raster


def test_events_show_each_polarity_in_its_colour():
    frames = torch.zeros(3, 2, 4, 5)
    frames[0, 0, 1, 2] = 1
    frames[2, 1, 3, 4] = 1
    image = np.asarray(events(frames).images[0].get_array())
    assert image[0, 0].tolist() == [1, 1, 1]
    assert image[1, 2].tolist() == [0, 0, 1]
    assert image[3, 4].tolist() == [1, 0, 0]


def test_raster_draws_the_spikes_into_the_given_axes():
    spikes = torch.eye(4, 6).bool()
    ax = raster(spikes)
    assert raster(spikes, ax) is ax
    drawn = np.asarray(ax.images[0].get_array())
    assert np.array_equal(drawn, spikes.T.float().numpy())
    graded = spikes * torch.tensor([-2.5, 0.1, 7.0, 1.0, -1.0, 1.0])
    assert np.array_equal(np.asarray(raster(graded).images[0].get_array()), drawn)


def test_membranes_draw_the_winner_bold():
    trace = torch.tensor([[0.0, 1.0, 0.5], [0.0, 2.0, 0.5]])
    widths = [line.get_linewidth() for line in membranes(trace).lines]
    assert np.argmax(widths) == 1


def test_overview_shows_events_every_layer_and_the_readout(tmp_path):
    spikes = {"layer 1": torch.eye(5, 7).bool(), "layer 2": torch.zeros(5, 2).bool()}
    readout = torch.arange(15.0).reshape(5, 3)
    figure = overview(torch.zeros(5, 2, 4, 4), spikes, readout, "one recording")
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000
    _, first, second, last = figure.axes
    assert figure.get_suptitle() == "one recording"
    assert [first.get_title(), second.get_title()] == [
        "layer 1: 14.3% of neurons a step",
        "layer 2: 0.0% of neurons a step",
    ]
    assert np.array_equal(np.asarray(first.images[0].get_array()), spikes["layer 1"].T.float().numpy())
    assert np.array_equal([line.get_ydata() for line in last.lines], readout.T.numpy())


def test_a_batch_is_refused():
    with pytest.raises(InputError, match="index the batch first"):
        events(torch.zeros(5, 8, 2, 4, 4))


def test_forgetting_draws_a_line_a_method_on_the_first_task_and_on_the_mean():
    matrix = torch.tensor([[0.9, float("nan")], [0.5, 0.8]])
    figure = forgetting({"plain": matrix, "hlop": matrix + 0.1}, title="two")
    first, mean = figure.axes
    assert first.lines[0].get_ydata() == pytest.approx([90, 50])
    assert mean.lines[1].get_ydata() == pytest.approx([100, 75])
    with pytest.raises(InputError, match="no matrix"):
        forgetting({})
    with pytest.raises(InputError, match=r"\[K, K\]"):
        forgetting({"plain": torch.zeros(2, 3)})

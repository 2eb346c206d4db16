"""Cores: the figures that a count over real matrices gave before, and what every placement must hold to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikekit.errors import InputError
from spikekit.export.cost.cores import place, place_and_listen
from spikekit.export.cost.packing import Wiring, exceeded
from spikekit.export.cost.targets import LOIHI1, LOIHI2, Limit, Target
from spikekit.export.synapses import Synapses


def weights(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 127, shape)


def wiring(synapses, first=None, **changes):
    post, pre, _ = synapses.connections
    none = np.zeros(synapses.n_out, np.int64)
    layer = Wiring(
        "layer", synapses.n_in if first is None else first, synapses.out_shape, post, pre, 8, none, none, fires=True
    )
    return replace(layer, **changes)


def dense(n_out, n_in):
    return Synapses("dense", weights(n_out, n_in), (n_in,), (n_out,))


K5 = Synapses("conv", weights(16, 1, 5, 5), (1, 28, 28), (16, 28, 28), padding=(2, 2))
K3 = Synapses("conv", weights(32, 16, 3, 3), (16, 14, 14), (32, 7, 7), stride=(2, 2), padding=(1, 1))


@pytest.mark.parametrize(
    ("synapses", "cores", "bound", "order", "most_axons"),
    [
        (dense(256, 784), 2, "memory_bits", "channels", 784),
        (K5, 13, "neurons", "pixels", 180),
        (K3, 4, "memory_bits", "pixels", 1216),
    ],
    ids=["784-256", "28x28 k5", "14x14 k3 s2"],
)
def test_known_layers_on_loihi_1(synapses, cores, bound, order, most_axons):
    (placement,) = place([wiring(synapses)], LOIHI1)
    assert placement.fits
    assert (len(placement.cores), placement.bound, placement.order) == (cores, bound, order)
    assert max(core.in_axons for core in placement.cores) == most_axons


def test_memory_of_a_core_by_hand():
    # 100 neurons, each with all of 10 inputs. Dense: blocks of 64 and 36 weights of 8 bits with a head of 10:
    # 522 and 298 bits, rounded up to 576 and 320.
    (placement,) = place([wiring(dense(100, 10))], LOIHI1)
    (core,) = placement.cores
    assert core.memory_bits == 10 * (576 + 320)
    # One synapse an axon: 8 bits and an index of 7, with the head 25, rounded up to 64.
    (placement,) = place([wiring(Synapses("dense", np.eye(100, dtype=int), (100,), (100,)))], LOIHI1)
    assert placement.cores[0].memory_bits == 100 * 64
    # On Loihi 2 every neuron's state takes a word of the same memory.
    (placement,) = place([wiring(dense(100, 10))], LOIHI2)
    assert placement.cores[0].memory_bits == 10 * (576 + 320) + 100 * 64


def test_too_many_inputs_are_refused_with_the_way_out():
    (placement,) = place([wiring(dense(10, 6272))], LOIHI1)
    assert not placement.fits
    assert placement.cores == ()
    assert "6,272 inputs" in placement.reason
    assert "4,096" in placement.reason
    assert "strided convolution" in placement.way_out
    (placement,) = place([wiring(dense(10, 6272))], LOIHI1.edited({"in_axons": None}))
    assert placement.fits


def test_one_threshold_a_neuron_takes_a_core_for_sixteen():
    own = np.arange(K5.n_out)
    (placement,) = place([wiring(K5, thresholds=own)], LOIHI1)
    assert (len(placement.cores), placement.bound) == (784, "thresholds")
    (placement,) = place([wiring(K5, thresholds=own % 16)], LOIHI1)
    assert len(placement.cores) == 13
    # A readout has none.
    (placement,) = place([wiring(K5, thresholds=own, fires=False)], LOIHI1)
    assert len(placement.cores) == 13
    (placement,) = place([wiring(K5, configs=own)], LOIHI1)
    assert (len(placement.cores), placement.bound) == (392, "configs")


def test_neurons_that_share_thresholds_lie_together():
    # Channel c has the threshold c: pixels of all 32 channels together would need 32 of a core.
    shared = np.repeat(np.arange(32), 49)
    (placement,) = place([wiring(K3, thresholds=shared)], LOIHI1)
    assert placement.order == "thresholds"
    assert max(core.thresholds for core in placement.cores) <= 16
    assert len(placement.cores) == 4
    assert "thresholds='group'" in placement.way_out
    assert place([wiring(K3, thresholds=shared % 16)], LOIHI1)[0].way_out == ""


def test_neurons_that_many_cores_listen_to_need_output_axons():
    # 1,000 neurons, each heard by 5 cores of 3 neurons: a core sends to 4,096 pairs, so it holds 819.
    few = LOIHI1.edited({"neurons": 1000})
    first = wiring(dense(1000, 2), first=2)
    second = wiring(dense(15, 1000), first=1002)
    second = replace(second, pre=second.pre + 2, configs=np.arange(15) // 3)
    few = few.edited({"configs": 1})
    before, after = place([first, second], few)
    assert len(after.cores) == 5
    assert [core.neurons for core in before.cores] == [819, 181]
    assert before.bound == "out_axons"
    assert [core.out_axons for core in before.cores] == [819 * 5, 181 * 5]
    assert not any(core.out_axons for core in after.cores)


def test_feedback_is_heard_by_its_own_layer():
    inputs, back = dense(10, 4), dense(10, 10)
    post = np.concatenate([inputs.connections[0], back.connections[0]])
    pre = np.concatenate([inputs.connections[1], back.connections[1] + 4])
    (placement,) = place([wiring(inputs, post=post, pre=pre)], LOIHI1.edited({"neurons": 5}))
    assert [(core.neurons, core.in_axons, core.out_axons) for core in placement.cores] == [(5, 14, 10), (5, 14, 10)]


def test_a_later_round_does_not_forget_who_listened():
    """With feedback, cores that are cut anew hear other neurons: each neuron is counted with the most that it had."""
    generator = np.random.default_rng(2574)
    generator.integers(4, 9)
    post, pre = np.nonzero(generator.random((5, 7)) < 0.5)
    layer = wiring(dense(5, 2), post=post, pre=pre)
    limits = LOIHI1.edited({"neurons": 2, "out_axons": 5, "in_axons": 7})
    (placement,), heard = place_and_listen([layer], limits)
    assert placement.fits
    assert heard[2:].sum() <= sum(core.out_axons for core in placement.cores)


def test_a_neuron_that_comes_twice_has_two_axons():
    once = dense(3, 4)
    post, pre = (np.tile(side, 2) for side in once.connections[:2])
    group = np.repeat([0, 1], once.count)
    (placement,) = place([wiring(once, post=post, pre=pre, group=group)], LOIHI1)
    assert placement.cores[0].in_axons == 8


def test_a_layer_without_synapses_has_cores_all_the_same():
    nothing = np.zeros(0, np.int64)
    (placement,) = place([wiring(dense(3, 4), post=nothing, pre=nothing)], LOIHI1)
    assert [core.neurons for core in placement.cores] == [3]


@given(
    n_out=st.integers(1, 40),
    n_in=st.integers(1, 30),
    density=st.floats(0.05, 1.0),
    bits=st.integers(4, 8),
    limits=st.fixed_dictionaries(
        {
            "neurons": st.integers(1, 20),
            "in_axons": st.integers(1, 30),
            "memory_bits": st.integers(64, 6000),
            "thresholds": st.integers(1, 5),
        }
    ),
    seed=st.integers(0, 99),
)
def test_every_neuron_has_a_place_within_the_limits_and_no_core_is_too_small(n_out, n_in, density, bits, limits, seed):
    generator = np.random.default_rng(seed)
    weight = (generator.random((n_out, n_in)) < density).astype(int)
    target = LOIHI1.edited(limits)
    layer = wiring(
        Synapses("dense", weight, (n_in,), (n_out,)), weight_bits=bits, thresholds=generator.integers(0, 9, n_out)
    )
    (placement,) = place([layer], target)
    if not placement.fits:
        assert weight.sum(1).max() > limits["in_axons"] or limits["memory_bits"] < 64 * n_in
        return
    assert sum(core.neurons for core in placement.cores) == n_out
    assert not any(exceeded(core, target) for core in placement.cores)
    if placement.order == "thresholds":
        return
    start = 0
    for core in placement.cores:
        stop = start + core.neurons
        assert core.in_axons == weight[start:stop].any(0).sum()
        assert core.thresholds == len(np.unique(layer.thresholds[start:stop]))
        if stop < n_out:
            # One neuron more would have been too many.
            alone = replace(
                layer, shape=(core.neurons + 1,), thresholds=layer.thresholds[start : stop + 1],
                configs=layer.configs[start : stop + 1],
                post=layer.post[(layer.post >= start) & (layer.post <= stop)] - start,
                pre=layer.pre[(layer.post >= start) & (layer.post <= stop)],
            )  # fmt: skip
            assert len(place([alone], target)[0].cores) > 1
        start = stop


def test_edited_figures_are_shown_as_the_users():
    target = LOIHI2.edited({"in_axons": 16384, "thresholds": None}, "mine")
    assert target.name == "mine"
    assert target["in_axons"] == 16384
    assert target.limits["in_axons"] == Limit(16384, "given by the user", assumed=True)
    assert target.limits["neurons"] == LOIHI2.limits["neurons"]
    assert not any(limit.assumed for limit in LOIHI1.limits.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axons": 4}, "there is no figure"),
        ({"neurons": 0}, "neurons must be a whole number from 1 or None, got 0"),
        ({"neurons": 1.5}, "got 1.5"),
        ({"word_bits": None}, "word_bits must be a whole number from 1, got None"),
    ],
)
def test_tables_that_are_none_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LOIHI1.edited(changes)


def test_a_table_holds_every_figure():
    with pytest.raises(InputError, match="look at"):
        Target("mine", {"neurons": Limit(1, "")})

from __future__ import annotations

import pytest

from spikekit.errors import InputError
from spikekit.export.cost.energy import CHIPS, CMOS_45NM, EnergyModel, estimate, in_words

# 784-256-10, 20 steps, inputs and hidden neurons firing in a tenth of them.
SPIKES = 512
COUNTS = {"synaptic_operations": 0.1 * 20 * (784 * 256 + 256 * 10), "updates": 20 * 266}


def test_the_example_has_the_published_size():
    assert COUNTS == {"synaptic_operations": 406_528, "updates": 5_320}
    davies, keras, sana = (estimate(COUNTS, model) for model in CHIPS)
    assert [round(energy.joules * 1e6, 1) for energy in (davies, keras, sana)] == [10.0, 11.4, 14.8]
    assert in_words(davies.joules) == "10.0 µJ"
    assert davies.parts == pytest.approx({"synaptic_operations": 9.594e-6, "updates": 0.431e-6}, rel=1e-3)


def test_what_a_table_asks_for_and_nobody_counted_is_named():
    sana = estimate(COUNTS, CHIPS[2])
    assert sana.uncounted == ("spikes", "messages")
    whole = estimate({**COUNTS, "spikes": SPIKES, "messages": 2 * SPIKES}, CHIPS[2])
    assert whole.uncounted == ()
    assert whole.joules - sana.joules == pytest.approx((69.3 + 2 * 76.8) * SPIKES * 1e-12)


def test_arithmetic_of_45_nm_stands_apart():
    assert CMOS_45NM not in CHIPS
    found = estimate({"macs": 1e6, "accumulates": 1e6, "updates": 5}, CMOS_45NM)
    assert found.joules == pytest.approx(5.5e-6)


def test_every_table_has_its_source_and_none_is_of_loihi_2():
    for model in (*CHIPS, CMOS_45NM):
        assert model.source
        assert model.caveat
        assert "Loihi 2" not in model.name


def test_unknown_operations_are_refused():
    with pytest.raises(InputError, match="unknown operations"):
        estimate({"flops": 1}, CMOS_45NM)
    with pytest.raises(InputError, match="are not counted"):
        EnergyModel("mine", {"flops": 1}, "", "")


@pytest.mark.parametrize(
    ("joules", "text"),
    [
        *((10.0254e-6, "10.0 µJ"), (1.0e-6, "1.00 µJ"), (123.4e-6, "123 µJ"), (2.5, "2.50 J"), (3e-12, "3.00 pJ")),
        *((0, "0 pJ"), (2e-14, "0.02 pJ"), (999.7e-12, "1.00 nJ"), (999.6e-6, "1.00 mJ"), (9.997e-9, "10.0 nJ")),
    ],
)
def test_joules_in_words(joules, text):
    assert in_words(joules) == text

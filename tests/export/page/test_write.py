"""The page: whole, self-contained, escaped, and readable by a parser that forgives nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from spikekit.errors import ExportError, InputError
from spikekit.export import Divergence, LayerProof, Proof, to_loihi
from spikekit.export.cost.targets import LOIHI1, LOIHI2
from spikekit.export.page import page, write_report
from spikekit.export.page.html import Html, join, table, tag
from spikekit.export.page.pictures import histogram, meter, raster
from spikekit.export.page.summary import summarise
from tests.export.nets import conv_net, frames

EVIL = "<script>alert('\"&')</script>"
NO_END = {"meta"}


class Reader(HTMLParser):
    """Collects text and tags; every tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in NO_END:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def x():
    return frames()


@pytest.fixture(scope="module")
def chip(x):
    return to_loihi(conv_net(), x)


@pytest.fixture(scope="module")
def written(chip, x, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "net.html"
    assert write_report(chip, x, path, title="first", data="noise", accuracies={"integer": 0.25}) == path
    return path


def proof(chip, mismatches=0, first=None):
    layers = tuple(LayerProof(layer.name, 1000, mismatches, 10, 0, 0.0) for layer in chip.layers)
    return Proof("lava-fixed", 2, 9, layers, first, "0.10.0", "3.11.7", 0.5)


def test_a_page_asks_for_nothing_and_runs_nothing(written):
    text = written.read_text(encoding="utf-8")
    found = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & {name for name, _ in found.tags}
    given = {key for _, attributes in found.tags for key in attributes}
    assert not {"src", "href", "srcset", "style", "background"} & given
    assert not any(key.startswith("on") for key in given)
    assert not re.search(r"url\(|@import|https?:", text)


def test_a_page_says_what_it_should(written, chip):
    found = Reader(written.read_text(encoding="utf-8"))
    titles = ["Proof", "Layers", "Activity", "Quantisation loss", "Cores", "Energy, estimated", "Pictures"]
    for words in (*titles, "Figures and sources", "first", "noise: 6 samples of 9 steps", "25.00%", "Not run."):
        assert words in found.words, words
    for words in ("Davies et al. 2018", "SANA-FE", "keras-spiking", "Horowitz 2014", "assumed", "No table of Loihi 2"):
        assert words in found.text
    assert "Size only: the neuron of Loihi 1 resets to zero" in found.text
    # One raster for each layer that fires, one histogram of weights for each, one of rates for each that fires.
    assert sum("viewbox" in attributes and "class" not in attributes for _, attributes in found.tags) == 2 + 3 + 2
    assert all(attributes.get("aria-label") for name, attributes in found.tags if name == "svg")
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in found.tags


def test_no_table_of_energy_is_of_loihi_2(chip, x):
    summary = summarise(chip, x)
    assert not any("Loihi 2" in energy.model.name for energy in summary.energies)


def test_the_figures_lie_beside_the_page(written, chip, x, tmp_path):
    assert json.loads(written.with_suffix(".json").read_text())["title"] == "first"
    write_report(chip, x, tmp_path / "a.html", json_path=tmp_path / "b.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.json"]


def test_hard_reset_fits_loihi_1(x, tmp_path):
    chip = to_loihi(conv_net(reset="hard"), x)
    assert "Size only" not in page(summarise(chip, x))


def test_names_are_text(chip, x):
    layers = tuple(replace(layer, name=EVIL + layer.name) for layer in chip.layers)
    evil = replace(chip, layers=layers)
    first = Divergence(EVIL, 0, 1, 2, 1.0, 0.0)
    tight = LOIHI1.edited({"in_axons": 1}, EVIL)
    summary = summarise(
        evil, x, title=EVIL, data=EVIL, accuracies={EVIL: 1.0}, proof=proof(evil, 1, first), targets=(tight,)
    )
    text = page(summary)
    assert "<script" not in text
    found = Reader(text)
    assert not any(name == "script" for name, _ in found.tags)
    assert EVIL in found.words
    assert f"{EVIL}: does not fit" in found.text


def test_a_proof_is_shown_with_its_verdict(chip, x):
    same = Reader(page(summarise(chip, x, proof=proof(chip))))
    assert "identical" in same.words
    assert "Not run." not in same.words
    assert "lava-nc 0.10.0" in same.text
    first = Divergence("6", 1, 3, 5, 1.0, 0.0)
    other = Reader(page(summarise(chip, x, proof=[proof(chip), proof(chip, 4, first)])))
    assert "different" in other.words
    assert "12 of 3,000 spike decisions differ" in other.text
    assert "First at layer 6, sample 1, step 3, neuron 5" in other.text


def test_a_layer_without_a_place_says_why(chip, x):
    found = Reader(page(summarise(chip, x, targets=(LOIHI2.edited({"in_axons": 3}, "tiny"),))))
    assert "tiny: does not fit, because of layer 2, 6, 8" in found.text
    assert "a neuron has 18 inputs, a core of tiny at most 3" in found.text
    assert "strided convolution" in found.text
    assert "given by the user" in found.text


def test_layers_with_many_thresholds_share_one_hint(x):
    few = LOIHI1.edited({"thresholds": 2}, "few")
    summary = summarise(to_loihi(conv_net(), x), x, targets=(few,))
    assert Reader(page(summary)).text.count("Layer 2, 6: A core holds few thresholds") == 1


def test_more_cores_than_a_chip_has(chip, x):
    found = Reader(page(summarise(chip, x, targets=(LOIHI2.edited({"neurons": 10, "cores": 4}, "tiny"),))))
    assert "tiny: 10 cores, on 3 chips of 4" in found.text


def test_places_that_cannot_be_written_are_named(chip, x, tmp_path):
    with pytest.raises(InputError, match="would be one file"):
        write_report(chip, x, tmp_path / "net.json")
    (tmp_path / "net.html").mkdir()
    with pytest.raises(InputError, match=r"net\.html: is a folder; give the page a name"):
        write_report(chip, x, tmp_path / "net.html")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"net\.json: cannot be written"):
        write_report(chip, x, tmp_path / "file" / "net.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "net.html"]
    with pytest.raises(InputError, match="holds fractions"):
        write_report(chip, x + 0.5, tmp_path / "other.html")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"accuracies": {"integer": float("nan")}},
            "accuracy 'integer' must be a part of the samples, 0 to 1, got nan",
        ),
        ({"accuracies": {"integer": "high"}}, "accuracy 'integer' must be .* got 'high'"),
        ({"proof": "yes"}, "proof must be what chip.verify"),
        ({"proof": True}, "proof must be what chip.verify"),
        ({"targets": LOIHI1}, r"put the one into a tuple, \(LOIHI1,\)"),
    ],
    ids=str,
)
def test_what_is_no_figure_and_no_proof_is_refused(chip, x, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        write_report(chip, x, tmp_path / "net.html", **given)
    assert not list(tmp_path.iterdir())


def test_a_proof_of_another_network_is_refused(chip, x):
    other = proof(chip)
    other = replace(other, layers=other.layers[:2])
    with pytest.raises(InputError, match=r"the proof is of layers \['2', '6'\], this network has \['2', '6', '8'\]"):
        summarise(chip, x, proof=[proof(chip), other])


def test_it_is_of_an_exported_network(x):
    with pytest.raises(InputError, match="give what to_loihi made, got Sequential"):
        summarise(conv_net(), x)


@pytest.mark.parametrize(("bits", "bars"), [(4, 17), (5, 33), (8, 33)])
def test_every_bar_of_weights_holds_as_many_values_of_a_weight(x, bits, bars):
    found = Reader(page(summarise(to_loihi(conv_net(), x, weight_bits=bits), x)))
    boxes = [a["viewbox"] for name, a in found.tags if name == "svg" and a["aria-label"].startswith("weights of")]
    assert boxes == [f"0 0 {bars} 40"] * 3


def test_markup_is_escaped_unless_it_is_markup():
    assert tag("p", "<b>", Html("<i></i>"), 3, class_="a\"'", aria_label="x") == (
        '<p class="a&quot;&#x27;" aria-label="x">&lt;b&gt;<i></i>3</p>'
    )
    assert isinstance(join("a", Html("b")), Html)
    assert '<td class="l">&lt;</td>' in table(["a"], [["<"]])


def test_a_raster_draws_every_spike_of_a_small_layer():
    spikes = np.zeros((4, 3), bool)
    spikes[0, 0] = spikes[1, 0] = spikes[3, 2] = True
    drawn = raster(spikes)
    # Neuron 0 at the bottom, its two steps one run; neuron 2 at the top.
    assert 'd="M3 0h1v1H3zM0 2h2v1H0z"' in drawn
    assert 'fill-opacity="1.00"' in drawn
    assert "<path" not in raster(np.zeros((4, 3), bool))


def test_a_raster_of_a_large_layer_stays_small_and_keeps_a_lonely_spike():
    spikes = np.zeros((1000, 50_000), bool)
    spikes[500, 25_000] = True
    drawn = raster(spikes)
    assert drawn.count("<path") == 1
    spikes[:] = np.random.default_rng(0).random(spikes.shape) < 0.3
    assert len(raster(spikes)) < 500_000


def test_a_histogram_holds_every_value():
    drawn = histogram(np.array([0.0, 0.0, 1.0]), 0, 1, "three", bars=2)
    assert 'd="M0.1 40v-38.00h.8v38.00zM1.1 40v-19.00h.8v19.00z"' in drawn
    assert "<svg" in histogram(np.zeros(0), 0, 0, "none")


def test_a_meter_ends_at_full():
    assert 'width="50.0"' in meter(0.5)
    assert 'width="100.0"' in meter(7.0)

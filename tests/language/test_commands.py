"""`spikekit train` with a recipe on text, and `spikekit generate`."""

from __future__ import annotations

import io

import pytest
import yaml

from spikekit import recipe as recipes
from spikekit.cli import main
from spikekit.errors import InputError
from spikekit.language import TextSettings
from spikekit.language.recipe import TextRecipe, is_text, make_text_recipe

SMALL = {"name": "astro_lm", "width": 16, "layers": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    file = tmp_path / "data/text/tinyshakespeare/input.txt"
    file.parent.mkdir(parents=True)
    file.write_text("Speak, speak.\nYou are all resolved rather to die than to famish?\n" * 60)
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path / "data"))
    return tmp_path


def write(folder, **values):
    path = folder / "recipe.yaml"
    training = {"steps": 12, "judge": 2}
    path.write_text(
        yaml.safe_dump(
            {"data": "tinyshakespeare", "model": SMALL, "batch": 4, "length": 16, "training": training} | values
        )
    )
    return path


def test_train_go_on_and_generate(home, capsys):
    path, out = write(home), home / "run"
    assert main(["train", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "tinyshakespeare: the first 90 %" in printed
    assert "after 12 steps: held out " in printed
    assert main(["train", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]
    assert main(["generate", str(out), "--prompt", "You", "--count", "20", "--stats"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("You")
    assert "tokens/s, " in text
    assert "layer blocks.0.value (LIF): " in text
    assert main(["generate", str(out), "--prompt", "You", "--count", "20", "--seed", "0"]) == 0
    assert text.startswith(capsys.readouterr().out)
    assert main(["train", str(path), "--out", str(out), "--seed", "3"]) == 1
    assert "started with config" in capsys.readouterr().err


def test_byte_pairs(home, capsys):
    path, out = write(home, tokens={"kind": "bpe", "size": 280}), home / "run"
    assert main(["train", str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["generate", str(out), "--prompt", "É", "--count", "30", "--temperature", "2"]) == 0
    assert capsys.readouterr().out.startswith("É")


def test_the_recipe_that_comes_with_spikekit():
    file, values = recipes.read_values("shakespeare_astro")
    assert is_text(values)
    made = make_text_recipe(values, str(file))
    assert made.sizes(65).width == 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": SMALL | {"widht": 3}}, "model: unknown key 'widht'; did you mean 'width'"),
        ({"model": SMALL | {"width": 0}}, "width must be a whole number above 0"),
        ({"model": {"name": "astro_lm", "preset": "2m"}}, "model: preset"),
        ({"model": {"name": "lstm"}}, "model: name: unknown value 'lstm'"),
        ({"tokens": {"kind": "word"}}, "tokens: kind"),
        ({"training": {"steps": 3, "lrate": 1}}, "training: unknown key 'lrate'"),
        ({"training": {}}, "training: TextSettings: give steps or seconds"),
        ({"training": {"steps": 1.5}}, "training: TextSettings: steps must be a whole number above 0, got 1.5"),
        ({"training": {"steps": 3, "lr": "fast"}}, "training: lr must be a number, got 'fast'"),
        ({"model": SMALL | {"decays": [0.5]}}, "model: AstroLMConfig: decays must be two rising numbers"),
        ({"model": SMALL | {"timescales": 5}}, "model: AstroLMConfig: timescales must be two rising numbers"),
        ({"model": SMALL | {"strength": "x"}}, "model: AstroLMConfig: strength must be a finite number, got 'x'"),
        ({"tokens": {"kind": "bpe", "size": -3}}, "tokens: .* a whole number of 256 or more, .* got -3"),
        ({"tokens": {"kind": "bpe", "size": 300.5}}, "tokens: .* a whole number of 256 or more, .* got 300.5"),
        ({"tokens": {"kind": "bpe"}}, "tokens: a byte-pair code needs its size"),
        ({"tokens": {"kind": "char", "size": 100}}, "tokens: .*; leave size out"),
        ({"batch": 0}, "batch must be a whole number, 1 or more, got 0"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(InputError, match=message) as raised:
        make_text_recipe({"data": "tinyshakespeare", "model": SMALL} | values, "r.yaml")
    assert str(raised.value).startswith("r.yaml: ")


def test_numbers_that_yaml_takes_for_texts():
    training = yaml.safe_load("{steps: 3, lr: 1e-3, weight_decay: 1e-2, warmup: 5e-2, clip_norm: 1e0}")
    model = SMALL | yaml.safe_load("{decays: [1e-2, 0.9], timescales: [5e0, 2e3], strength: 5e-1}")
    made = TextRecipe("tinyshakespeare", model, training=training)
    assert made.settings() == TextSettings(steps=3, lr=1e-3)
    sizes = made.sizes(256)
    assert (sizes.decays, sizes.timescales, sizes.strength) == ((0.01, 0.9), (5.0, 2000.0), 0.5)
    seconds = TextRecipe("tinyshakespeare", SMALL, training={"seconds": "2e1"})
    assert seconds.settings().seconds == 20


def test_options_that_do_not_go_with_text(home, capsys):
    path = write(home)
    for option in (["--epochs", "3"], ["--precision", "bf16-mixed"], ["--devices", "2"], ["--lr", "1"]):
        assert main(["train", str(path), "--out", str(home / "run"), *option]) == 1
        assert option[0] in capsys.readouterr().err
    assert main(["evaluate", str(home)]) == 1
    with pytest.raises(SystemExit):
        main(["generate", str(home), "--prompt", ""])
    assert TextRecipe("tinyshakespeare", SMALL).seed == 0


@pytest.fixture
def run(home, capsys):
    out = home / "run"
    assert main(["train", str(write(home)), "--out", str(out)]) == 0
    capsys.readouterr()
    return out


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_commands_that_are_not_for_text_name_the_one_that_is(run, capsys, command):
    assert main([command, str(run)]) == 1
    told = capsys.readouterr().err
    assert "this is a language model" in told
    assert f"spikekit generate {run}" in told
    assert "not written by" not in told


def test_a_picture_of_the_astrocytes(run, home, capsys):
    file = home / "new/picture.png"
    assert main(["generate", str(run), "--prompt", "You", "--count", "10", "--picture", str(file)]) == 0
    assert file.stat().st_size > 10_000
    for name in ("picture", "picture.jpeg"):
        assert main(["generate", str(run), "--picture", str(home / name)]) == 1
        assert "must end in .png, .svg, .pdf" in capsys.readouterr().err


def test_a_picture_of_a_network_without_astrocytes(home, capsys):
    path, out = write(home, model=SMALL | {"astrocytes": None}), home / "run"
    assert main(["train", str(path), "--out", str(out)]) == 0
    assert main(["generate", str(out), "--count", "1", "--picture", str(home / "p.png")]) == 1
    assert "no astrocytes" in capsys.readouterr().err


def test_signs_that_were_never_seen_are_told(run, capsys):
    assert main(["generate", str(run), "--prompt", "Yöu ♥ö", "--count", "0"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Yöu ♥ö\n"
    assert "never seen in training, and read as unknown: 'ö', '♥'" in printed.err
    assert main(["generate", str(run), "--prompt", "You", "--count", "0"]) == 0
    assert capsys.readouterr().err == ""


def test_a_terminal_that_knows_few_signs(run, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    assert main(["generate", str(run), "--prompt", "é", "--count", "3"]) == 0
    assert narrow.buffer.getvalue().startswith(b"?")


@pytest.mark.parametrize("temperature", ["0", "1e-320", "1e308"])
def test_temperatures_at_the_ends(run, capsys, temperature):
    assert main(["generate", str(run), "--prompt", "You", "--count", "5", "--temperature", temperature]) == 0
    assert len(capsys.readouterr().out) == len("You") + 5 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "a prompt needs a character at least"),
        (["--prompt", "a\udcff"], "the prompt is no UTF-8 text"),
        (["--temperature", "-1"], "not a finite number from 0"),
        (["--temperature", "nan"], "not a finite number from 0"),
        (["--count", "-3"], "not a whole number from 0"),
        (["--top-k", "0"], "not a whole number above 0"),
    ],
)
def test_what_cannot_be_asked_for(run, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", str(run), *arguments])
    assert message in capsys.readouterr().err


def test_folders_that_are_no_run(home, capsys):
    (home / "empty").mkdir()
    (home / "other").mkdir()
    (home / "other/last.safetensors").write_bytes(b"nothing of the kind")
    for name, message in (
        ("empty", "no such checkpoint"),
        ("gone", "no such checkpoint"),
        ("other", "last.safetensors"),
    ):
        assert main(["generate", str(home / name)]) == 1
        assert message in capsys.readouterr().err


def test_a_text_without_end_is_ended_by_its_reader(run, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            if len(self.getvalue()) > 40:
                raise BrokenPipeError
            return super().write(text)

    # What the command does to the file descriptor of standard output belongs to a process of its own.
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr("sys.stdout", closed := Closed())
    closed.fileno = lambda: 1
    assert main(["generate", str(run), "--prompt", "You", "--count", str(10**15)]) == 141
    assert len(closed.getvalue()) < 50

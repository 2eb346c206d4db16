"""`spikekit train` with a recipe on text, and `spikekit generate`."""

from __future__ import annotations

import pytest
import yaml

from spikekit import recipe as recipes
from spikekit.cli import main
from spikekit.errors import InputError
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
        ({"batch": 0}, "batch must be a whole number, 1 or more, got 0"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(InputError, match=message) as raised:
        make_text_recipe({"data": "tinyshakespeare", "model": SMALL} | values, "r.yaml")
    assert str(raised.value).startswith("r.yaml: ")


def test_options_that_do_not_go_with_text(home, capsys):
    path = write(home)
    for option in (["--epochs", "3"], ["--precision", "bf16-mixed"], ["--devices", "2"], ["--lr", "1"]):
        assert main(["train", str(path), "--out", str(home / "run"), *option]) == 1
        assert option[0] in capsys.readouterr().err
    assert main(["evaluate", str(home)]) == 1
    with pytest.raises(SystemExit):
        main(["generate", str(home), "--prompt", ""])
    assert TextRecipe("tinyshakespeare", SMALL).seed == 0

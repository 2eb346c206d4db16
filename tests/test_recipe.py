"""Recipes: what a file may say, what is made of it, and a run from the shell that can be continued and evaluated."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import spikekit as sk
from spikekit import recipe as recipes
from spikekit.cli import main
from spikekit.datasets import Cutout, RandomCrop, RandomFlip
from spikekit.detection import DetectionRecipe
from spikekit.errors import InputError
from spikekit.events import RandomAffine
from spikekit.recipe import Recipe, parameter_groups, read_recipe
from spikekit.task import Task
from spikekit.train import CrossEntropy, WarmCosine, load_weights, read_config

SMALL = {"name": "convnet", "channels": [4], "strides": [4], "hidden": 8}


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A Fashion-MNIST of 60 + 20 images whose label is the brightest of ten bars."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 60), ("t10k", 20)):
        labels = np.arange(n) % 10
        images = rng.integers(0, 60, (n, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 5] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = tmp_path / "data/FashionMNIST/raw" / f"{prefix}-{name}-ubyte.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(idx(array)))
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path / "data"))


def write(folder, **values):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"data": "fashion-mnist", "model": SMALL} | values))
    return path


@pytest.mark.parametrize("name", [name for name in recipes.names() if name != "shakespeare_astro"])
def test_the_recipes_that_come_with_spikekit_can_be_built(name):
    found = read_recipe(name)
    assert found == read_recipe(recipes.FOLDER / f"{name}.yaml")
    if isinstance(found, DetectionRecipe):
        return  # tests/test_detection.py
    task = found.task()
    net = sk.models.build(task.model, task.arguments | ({"width": 1 / 64} if "resnet" in name or "vgg" in name else {}))
    trainer = found.trainer(net)
    trainer["optimizer"](net.parameters())
    assert found.validation > 0


def test_the_papers_settings():
    inflor, mpbn = read_recipe("inflor_resnet20_cifar10"), read_recipe("mpbn_resnet20_cifar10")
    for found, lr in ((inflor, 0.01), (mpbn, 0.1)):
        net = sk.models.build("resnet20", {"width": 1 / 64, "neuron": found.neuron, "norm": found.model["norm"]})
        settings = found.trainer(net)
        assert settings["schedule"] == WarmCosine(0.0)
        sgd = settings["optimizer"](net.parameters())
        assert {(g["lr"], g["momentum"]) for g in sgd.param_groups} == {(lr, 0.9)}
        assert (found.steps, found.epochs, found.batch) == (4, 400, 128)
        assert found.transform((0.1, 0.2, 0.3)).transforms == (
            *(RandomCrop(4), RandomFlip(), Cutout(16, (0.1, 0.2, 0.3))),
        )
    assert [g["weight_decay"] for g in sgd.param_groups] == [1e-4, 0.0]
    assert inflor.task().arguments == {"norm": "tdbn", "neuron": {"kind": "inflor_snn"}}


def test_weight_decay_spares_norms_and_biases():
    net = sk.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), sk.LIF(norm=sk.MPBN((2, 4, 4), positive=True)), nn.Flatten(),
        nn.Linear(32, 3), sk.TDBN1d(3), sk.LIF(),
    )  # fmt: skip
    decayed, spared = parameter_groups(net, decay_all=False)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3), (3, 32)]
    assert spared["weight_decay"] == 0
    assert len(decayed["params"]) + len(spared["params"]) == len(list(net.parameters()))
    (whole,) = parameter_groups(net, decay_all=True)
    assert len(whole["params"]) == len(list(net.parameters()))


def test_numbers_that_yaml_reads_as_text(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text() + "optimizer: {name: sgd, lr: 1e-2, weight_decay: 1e-4}\n")
    net = nn.Linear(2, 2)
    (group,) = read_recipe(path).trainer(net)["optimizer"](net.parameters()).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.01, 1e-4)


def test_the_part_held_out_is_not_trained_on(fashion, tmp_path):
    train, held_out = read_recipe(write(tmp_path, validation=20, batch=7, steps=3, seed=4)).loaders()
    seen, kept = (torch.cat([x[0] for x, _ in loader], 0) for loader in (train, held_out))
    assert (len(seen), len(kept)) == (40, 20)
    assert not (seen.flatten(1)[:, None] == kept.flatten(1)[None]).all(2).any()
    other = read_recipe(write(tmp_path, validation=20, seed=5)).loaders()[1]
    assert torch.equal(torch.cat([x[0] for x, _ in other], 0), kept)
    assert read_recipe(write(tmp_path)).loaders()[1] is None


def test_event_augmentation(tmp_path):
    augment = {"affine": {"degrees": 5.0}, "shift": False}
    path = write(tmp_path, data="nmnist", model={"name": "event_conv"}, augment=augment)
    assert read_recipe(path).transform(()).transforms == (RandomAffine(degrees=5.0),)


def test_a_run_is_trained_continued_and_evaluated(fashion, tmp_path, capsys):
    path = write(
        tmp_path,
        neuron={"kind": "mpbn"},
        steps=2,
        validation=20,
        batch=10,
        epochs=30,
        label_smoothing=0.05,
        optimizer={"name": "adamw", "lr": 0.02, "decay_all": False},
        augment={"crop": 1, "cutout": 4},
    )
    out = tmp_path / "run"
    assert main(["train", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Fashion-MNIST: 40 images, 2 steps each" in printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith("after epoch 30: held-out accuracy ")
    assert float(last.split("test accuracy ")[1].split("%")[0]) > 60
    assert main(["train", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == last
    assert main(["evaluate", str(out)]) == 0
    evaluated = capsys.readouterr().out
    assert f"Fashion-MNIST: accuracy {last.split('test accuracy ')[1].split(';')[0]}" in evaluated
    # By the recipe's own loss.
    task = Task.from_config(read_config(out / "last.safetensors"))
    load_weights(net := task.build(), out / "last.safetensors")
    x, labels = next(iter(task.frames("test").loader(100)))
    with torch.no_grad():
        loss = CrossEntropy(label_smoothing=0.05)(net.eval()(x), labels)
    assert f"loss {loss:.4f}" in evaluated
    assert read_config(out / "last.safetensors")["recipe"]["optimizer"]["lr"] == 0.02
    assert main(["train", str(path), "--out", str(out), "--seed", "3"]) == 1
    assert "recipe.seed = 0" in capsys.readouterr().err


def test_options_that_are_the_recipes(fashion, tmp_path, capsys):
    path = write(tmp_path)
    for option, value in (
        ("--data", "nmnist"),
        ("--bins", "3"),
        ("--batch-size", "4"),
        ("--lr", "1"),
        ("--model", "mlp"),
    ):
        assert main(["train", str(path), "--out", str(tmp_path / "run"), option, value]) == 1
        assert f"{option} is the recipe's to say; change it in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'"),
        ({"data": "fashion"}, "data: unknown value 'fashion'; did you mean 'fashion-mnist'"),
        ({"model": "convnet"}, "model must have a name and arguments"),
        ({"model": {"name": "convet"}}, "model: name: unknown value 'convet'; did you mean 'convnet'"),
        ({"model": SMALL | {"hiden": 3}}, "model: unknown key 'hiden'; did you mean 'hidden'"),
        ({"model": SMALL | {"neuron": {}}}, "neuron is a key of the recipe itself"),
        ({"model": {"name": "mlp"}, "neuron": {}}, "the model 'mlp' has its own neurons"),
        ({"neuron": {"threshhold": 1}}, "neuron: unknown key 'threshhold'; did you mean 'threshold'"),
        ({"optimizer": {"name": "sdg"}}, "optimizer: name: unknown value 'sdg'; did you mean 'sgd'"),
        ({"optimizer": {"name": "adamw", "momentum": 0.9}}, "optimizer: unknown key 'momentum'"),
        ({"optimizer": {"name": "sgd", "lr": "fast"}}, "optimizer: lr must be a number, got 'fast'"),
        ({"optimizer": {"name": "sgd", "decay_all": 1}}, "optimizer: decay_all must be true or false"),
        ({"augment": {"affine": True}}, "augment: unknown key 'affine'; choose one of"),
        ({"augment": {"crop": "four"}}, "augment: crop must be true, a number, or settings by name"),
        ({"augment": {"cutout": {"sise": 3}}}, "augment: cutout: unknown key 'sise'; did you mean 'size'"),
        ({"augment": {"crop": -1}}, "RandomCrop: padding"),
        ({"augment": {"flip": {"p": "half"}}}, "augment: flip: RandomFlip: p"),
        ({"optimizer": {"name": "sgd", "lr": 0}}, "optimizer: lr must be above 0"),
        ({"optimizer": {"name": "sgd", "momentum": 1}}, "optimizer: momentum must be 0 or more and below 1"),
        ({"seed": 2**64}, "seed must be below"),
        ({"steps": 0}, "steps must be a whole number, 1 or more, got 0"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"warmup": 1.0}, "WarmCosine: warmup"),
        ({"label_smoothing": 2}, "label_smoothing"),
    ],
)
def test_mistakes_are_named(values, message, tmp_path):
    with pytest.raises(InputError, match=message) as raised:
        read_recipe(write(tmp_path, **values))
    assert str(raised.value).startswith(f"{tmp_path / 'recipe.yaml'}: ")


def test_files_that_are_no_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, message in (
        ("data: [", "is not YAML"),
        ("- 1", "expected settings by name"),
        ("", "expected settings by name"),
        ("data: mnist\nepochs: 3\nepochs: 4", "the key 'epochs' is there twice.*line 3"),
        ("data: mnist\nmodel: {name: mlp, name: convnet}", "the key 'name' is there twice"),
        ("data: mnist", "the key 'model' is missing"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_recipe(path)
    with pytest.raises(InputError, match=r"nothing: no such recipe; these come with spikekit: .*fashion_conv"):
        read_recipe("nothing")


def test_a_recipe_is_plain_values():
    made = Recipe("mnist", SMALL, seed=3)
    assert Recipe(**made.config()["recipe"]) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"name": "sgd", "lr": -1}}, "recipe.yaml: optimizer: lr must be above 0"),
        ({"precision": "foo"}, "recipe.yaml: precision: unknown value 'foo'"),
        ({"clip_norm": -1}, "recipe.yaml: clip_norm must be above 0"),
        ({"model": {"name": "resnet20", "norm": "foo"}}, "recipe.yaml: model: resnet20: norm: unknown value 'foo'"),
        ({"model": {"name": "convnet", "channels": "cat"}}, "recipe.yaml: model: convnet: channels and strides"),
        ({"model": {"name": "convnet", "hidden": "many"}}, "recipe.yaml: model: "),
        ({"augment": {"crop": -3}}, "recipe.yaml: augment: crop: RandomCrop"),
        ({"neuron": {"beta": 3}}, "recipe.yaml: neuron: LIF: beta must be between 0 and 1"),
    ],
    ids=str,
)
def test_values_that_nothing_can_be_made_of_are_found_before_any_data_is(tmp_path, values, message):
    with pytest.raises(InputError) as found:
        read_recipe(write(tmp_path, **values))
    assert message in str(found.value)


def test_to_look_at_a_recipe_draws_no_random_number(tmp_path):
    path = write(tmp_path)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read_recipe(path)
    assert torch.equal(torch.rand(3), expected)

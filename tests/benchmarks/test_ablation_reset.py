"""The ablation on a few synthetic recordings: pairing, choice of the learning rate, resuming, and the report's sums."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import ablation_report, ablation_reset, ablation_run
from benchmarks.ablation_run import Run, Setup


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Counts trainings, which take place in this process."""
    model = {"in_shape": [2, 34, 34], "channels": [2], "strides": [8], "hidden": 4}
    setup = Setup("saccade-digits", "convnet", model, 40, 10, 1, 20, {"shift": 1}, rates=(1e-3, 1e-2))
    monkeypatch.setitem(ablation_run.SETUPS, "toy", setup)
    monkeypatch.setitem(ablation_report.NAMES, "toy", "Toy")
    monkeypatch.setattr(ablation_reset, "_pool", lambda jobs: ThreadPoolExecutor(1))
    calls, perform = [], ablation_reset.perform

    def counted(run, device):
        calls.append(run)
        return perform(run, device)

    monkeypatch.setattr(ablation_reset, "perform", counted)
    return calls


def test_a_run_that_was_stopped_goes_on_and_ends_in_a_report(toy, tmp_path, capsys):
    results = tmp_path / "out" / "toy.jsonl"
    command = ["--data", "toy", "--steps", "2", "--seeds", "2", "--results", str(results)]
    ablation_reset.main(command)
    assert [run.phase for run in toy] == ["tune"] * 16 + ["test"] * 16
    assert len(set(toy)) == 32
    out = capsys.readouterr().out
    assert "| hard reset + MPR + MPBN |" in out
    assert {path.name for path in results.parent.iterdir()} == {"toy.jsonl", "toy.md", "toy.png"}

    # Four results lost, the last of them in the middle of a line.
    lines = results.read_text().splitlines()
    results.write_text("\n".join(lines[:-4]) + "\n" + lines[-1][:50])
    del toy[:]
    ablation_reset.main(command)
    assert len(toy) == 4
    # The same runs give the same figures, and nothing is left to do.
    before, after = (_accuracies(text) for text in ("\n".join(lines), results.read_text()))
    assert after == before
    del toy[:]
    ablation_reset.main(command)
    ablation_reset.main([*command, "--report-only"])
    assert not toy


def _accuracies(text):
    found = {}
    for line in text.splitlines():
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        run = Run(**{name: result[name] for name in Run.__dataclass_fields__})
        found[run] = result["accuracy"]
    return found


def test_results_of_other_settings_are_left_alone(toy, tmp_path, monkeypatch):
    file = tmp_path / "toy.jsonl"
    run = Run("tune", "toy", 2, "soft", True, True, 0, 1e-3)
    ablation_reset.perform_all([run], file, 1, "cpu", 0)
    assert set(ablation_reset.read(file)) == {run}
    monkeypatch.setattr(ablation_run, "QUANTUM", 0.5)
    assert not ablation_reset.read(file)


def test_each_arm_gets_its_best_learning_rate():
    def tuned(accuracy):
        return [
            {"data": "toy", "steps": 2, "reset": reset, "mpr": mpr, "mpbn": mpbn, "lr": lr, "accuracy": a, "loss": loss}
            for reset, mpr, mpbn in ablation_reset.arms()
            for lr, a, loss in accuracy[reset]
        ]

    lines = tuned({"hard": [(1, 0.5, 1.0), (2, 0.7, 1.0)], "soft": [(1, 0.6, 1.0), (2, 0.6, 2.0)]})
    runs = ablation_reset.testing(["toy"], [2], 3, lines)
    assert {(run.reset, run.lr) for run in runs} == {("hard", 2), ("soft", 1)}
    assert [run.seed for run in runs] == [0] * 8 + [1] * 8 + [2] * 8


def test_arms_differ_in_their_neurons_alone():
    neurons = {arm: Run("test", "toy", 2, *arm, 0, 0.1).neuron() for arm in ablation_reset.arms()}
    assert len({json.dumps(neuron) for neuron in neurons.values()}) == 8
    assert {neuron["beta"] for neuron in neurons.values()} == {0.5}
    assert all(("quantum" in neuron) == (arm[0] == "soft") for arm, neuron in neurons.items())


def test_effects_are_paired_over_the_seeds_that_all_arms_have():
    lines = [
        {
            "phase": "test",
            "reset": r,
            "mpr": p,
            "mpbn": b,
            "seed": seed,
            "accuracy": seed + (r == "soft") + 2 * p - 4 * b,
        }
        for r, p, b in ablation_report.ARMS
        for seed in range(3)
    ]
    lines += [{"phase": "tune", "reset": "soft", "mpr": True, "mpbn": True, "seed": 9, "accuracy": 50}]
    found = ablation_report.by_arm(lines[:-2] + lines[-1:])
    assert ablation_report.effects(found) == {
        "soft - hard reset": [1, 1],
        "MPR - none": [2, 2],
        "MPBN - none": [-4, -4],
    }
    assert ablation_report.mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 3**-0.5))


def test_nothing_to_report(tmp_path):
    assert ablation_report.report([], tmp_path / "none") == "no run on a test set is finished yet"

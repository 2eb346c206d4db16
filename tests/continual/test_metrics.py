"""ACC, BWT and forgetting against numbers done by hand; protocols against what their names promise."""

from __future__ import annotations

import pytest
import torch

from spikekit import continual as cl
from spikekit.datasets import ImageSet
from spikekit.errors import InputError

NAN = float("nan")
MATRIX = torch.tensor([[0.9, NAN, NAN], [0.95, 0.8, NAN], [0.6, 0.7, 0.85]])


def test_the_numbers_of_a_matrix():
    assert cl.average_accuracy(MATRIX) == pytest.approx((0.6 + 0.7 + 0.85) / 3)
    assert cl.backward_transfer(MATRIX) == pytest.approx((0.6 - 0.9 + 0.7 - 0.8) / 2)
    assert cl.forgetting(MATRIX) == pytest.approx((0.95 - 0.6 + 0.8 - 0.7) / 2)
    assert cl.learning_accuracy(MATRIX) == pytest.approx((0.9 + 0.8 + 0.85) / 3)
    assert cl.curve(MATRIX).tolist() == pytest.approx([0.9, 0.875, 2.15 / 3])
    assert cl.backward_transfer(MATRIX[:1, :1]) == 0


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.zeros(0, 0), torch.tensor([[0.5, NAN], [NAN, 0.5]])])
def test_matrices_that_say_nothing_are_refused(matrix):
    with pytest.raises(InputError):
        cl.average_accuracy(matrix)


def images(count=40):
    pixels = torch.arange(count * 16).view(count, 1, 4, 4).remainder(256).to(torch.uint8)
    return ImageSet("grey", pixels, torch.arange(count) % 10, (0.5,), (0.25,))


def test_permuted_tasks_have_the_same_pixels_in_another_order():
    protocol = cl.permuted(images(), images(20), tasks=3, steps=4, limit=30)
    batches = [task.train.batch(torch.arange(5)) for task in protocol.tasks]
    assert [len(task.train) for task in protocol.tasks] == [30, 30, 30]
    assert batches[0].x.shape == (4, 5, 16)
    assert batches[0].x.stride(0) == 0
    expected = (images().images[:5].flatten(1) / 255 - 0.5) / 0.25
    torch.testing.assert_close(batches[0].x[0], expected)
    for batch in batches[1:]:
        assert not torch.equal(batch.x, batches[0].x)
        assert torch.equal(batch.x.sort(-1).values, batches[0].x.sort(-1).values)
    assert not torch.equal(batches[1].x, batches[2].x)
    test = protocol.test(1, 2).batch(torch.arange(5))
    assert torch.equal(test.x, batches[1].x)


@pytest.mark.parametrize("scenario", ["task", "class"])
def test_split_tasks_have_classes_of_their_own(scenario):
    protocol = cl.split_images(images(), images(20), scenario=scenario, per_task=3, flat=False, steps=2)
    assert [task.classes for task in protocol.tasks] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]
    batch = next(protocol.tasks[1].train.batches(100))
    assert batch.x.shape == (2, 12, 1, 4, 4)
    assert set(batch.y.tolist()) == {3, 4, 5}
    known = {3, 4, 5} if scenario == "task" else set(range(6))
    assert set(batch.allowed[0].nonzero().flatten().tolist()) == known
    judged = protocol.test(0, 2).allowed.nonzero().flatten().tolist()
    assert judged == ([0, 1, 2] if scenario == "task" else list(range(9)))


@pytest.mark.parametrize("scenario", ["task", "class"])
def test_mixed_sets_have_outputs_of_their_own(scenario):
    moving = cl.Samples(torch.ones(6, 2, 1, 4, 4, dtype=torch.uint8), torch.arange(6) % 3, None)
    still = cl.Samples.still(images(), 2)
    protocol = cl.mixed({"still": (still, still), "events": (moving, moving)}, scenario=scenario)
    assert (protocol.classes, protocol.shape, protocol.scenario) == (13, (16,), scenario)
    assert [task.classes for task in protocol.tasks] == [tuple(range(10)), (10, 11, 12)]
    batch = protocol.tasks[1].train.batch(torch.arange(6))
    assert batch.x.shape == (2, 6, 16)
    assert batch.y.tolist() == [10, 11, 12, 10, 11, 12]
    assert batch.allowed[0].nonzero().flatten().tolist() == list(range(10 if scenario == "task" else 0, 13))
    with pytest.raises(InputError, match=r"one shape a step.*\(16,\).*\(1, 4, 4\)"):
        cl.mixed({"a": (still, still), "b": (cl.Samples.still(images(), 2, flat=False),) * 2})


def test_data_go_to_another_device_and_stay_shared():
    protocol = cl.permuted(images(), images(20), tasks=3, steps=2).to("meta")
    parts = [part for task in protocol.tasks for part in (task.train, task.test)]
    assert all(part.data.device.type == part.order.device.type == "meta" for part in parts)
    assert len({id(task.train.data) for task in protocol.tasks}) == 1
    assert len({id(task.train.order) for task in protocol.tasks}) == 3
    assert next(protocol.tasks[1].train.batches(7, torch.Generator())).x.device.type == "meta"
    split = cl.split_images(images(), images(20), scenario="class").to("meta")
    assert split.test(0, 1).allowed.device.type == "meta"


def test_batches_go_through_all_samples_once_and_start_anywhere():
    samples = cl.permuted(images(), images(), tasks=1, steps=1).tasks[0].train
    whole = [b.y for b in samples.batches(7, torch.Generator().manual_seed(3))]
    assert torch.equal(torch.cat(whole).sort().values, samples.labels.sort().values)
    rest = [b.y for b in samples.batches(7, torch.Generator().manual_seed(3), start=2)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_what_is_no_protocol_is_refused():
    with pytest.raises(InputError, match="scenario"):
        cl.split_images(images(), images(), scenario="domain")
    with pytest.raises(InputError, match="tasks must be 1 or more"):
        cl.permuted(images(), images(), tasks=0)
    with pytest.raises(InputError, match="steps must be 1 or more"):
        cl.permuted(images(), images(), steps=0)
    with pytest.raises(InputError, match="per_task"):
        cl.split_images(images(), images(), per_task=10)

"""Protocols against what their names promise, and what is none."""

from __future__ import annotations

import pytest
import torch

from spikekit import continual as cl
from spikekit.datasets import ImageSet
from spikekit.errors import InputError


def images(count=40, classes=10, shift=0):
    pixels = (torch.arange(count * 16) + shift).view(count, 1, 4, 4).remainder(256).to(torch.uint8)
    return ImageSet("grey", pixels, torch.arange(count) % classes, (0.5,), (0.25,))


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
    with pytest.raises(InputError, match="tasks must be a whole number, 1 or more"):
        cl.permuted(images(), images(), tasks=0)
    with pytest.raises(InputError, match="steps must be a whole number, 1 or more"):
        cl.permuted(images(), images(), steps=0)
    for per_task in (0, 10):
        with pytest.raises(InputError, match="per_task"):
            cl.split_images(images(), images(), per_task=per_task)
    for limit in (0, -1, 2.5):
        for make in (cl.permuted, cl.split_images):
            with pytest.raises(InputError, match="limit must be"):
                make(images(), images(), limit=limit)
    small = ImageSet("small", torch.zeros(10, 1, 3, 3, dtype=torch.uint8), torch.arange(10), (0.5,), (0.25,))
    with pytest.raises(InputError, match=r"training samples are \(16,\) a step, test samples \(9,\)"):
        cl.permuted(images(), small)
    with pytest.raises(InputError, match=r"of the classes 0 to 9 the test samples have none of \[5, 6, 7, 8, 9\]"):
        cl.split_images(images(), images(5))
    with pytest.raises(InputError, match="holds no samples"):
        cl.permuted(images(0), images(0))
    with pytest.raises(InputError, match="no set is given"):
        cl.mixed({})


@pytest.mark.parametrize("count", [4, 20])
def test_a_set_has_as_many_classes_as_it_has(count):
    data, few = images(60, count), images(40, count)
    assert (cl.permuted(data, few).classes, cl.permuted(data, few).tasks[3].classes) == (count, tuple(range(count)))
    protocol = cl.split_images(data, few)
    assert protocol.classes == count
    assert [c for task in protocol.tasks for c in task.classes] == list(range(count))
    assert sum(len(task.train) for task in protocol.tasks) == 60


def test_the_fingerprint_tells_samples_apart():
    base = cl.permuted(images(), images(), tasks=2, steps=4).tasks
    again = cl.permuted(images(), images(), tasks=2, steps=4).tasks
    others = [
        base[1],
        cl.permuted(images(), images(), tasks=1, steps=5).tasks[0],
        cl.permuted(images(), images(), tasks=1, steps=4, limit=20).tasks[0],
        cl.permuted(images(shift=1), images(), tasks=1, steps=4).tasks[0],
        cl.split_images(images(), images(), steps=4, per_task=9).tasks[0],
    ]
    assert [task.train.fingerprint for task in base] == [task.train.fingerprint for task in again]
    assert len({task.train.fingerprint for task in (base[0], *others)}) == 6

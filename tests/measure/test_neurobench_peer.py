"""`sk.measure.neurobench` beside NeuroBench itself, where it is installed, and the places where the two differ."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.measure import neurobench


@pytest.fixture
def theirs():
    """What NeuroBench finds for a network on batches, under its own names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("neurobench.metrics", reason="pip install --no-deps neurobench, beside snntorch")
        from neurobench.metrics.manager.static_manager import StaticMetricManager
        from neurobench.metrics.manager.workload_manager import WorkloadMetricManager
        from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models import TorchModel

    class Batched(TorchModel):
        """Its batch comes first, ours second."""

        def __call__(self, batch):
            return self.net(batch.transpose(0, 1))

    def measure(net, batches):
        model = Batched(net)
        model.add_activation_module(sk.LIF)
        found = StaticMetricManager([Footprint, ParameterCount, ConnectionSparsity]).run_metrics(model)
        manager = WorkloadMetricManager([ActivationSparsity, SynapticOperations])
        manager.register_hooks(model)
        manager.initialize_metrics()
        size = sum(x.shape[1] for x in batches)
        for x in batches:
            data = (x.transpose(0, 1), torch.zeros(x.shape[1]))
            results = manager.run_metrics(model, model(data[0]), data, x.shape[1], size)
            manager.reset_hooks(model)
        manager.cleanup_hooks(model)
        return dict(found) | dict(results)

    return measure


def nets():
    torch.manual_seed(0)
    mlp = sk.Sequential(nn.Linear(50, 40), sk.LIF(0.9, 0.3), nn.Linear(40, 5), sk.LI())
    mlp[0].weight.data *= torch.rand_like(mlp[0].weight) < 0.6
    conv = sk.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4), sk.LIF(0.9, 0.2),
        nn.Flatten(), nn.Linear(4 * 5 * 5, 6), sk.LIF(0.8, 0.2),
    )  # fmt: skip
    yield "mlp", mlp, (torch.rand(6, 4, 50) < 0.3).float()
    yield "conv", conv, (torch.rand(5, 4, 2, 9, 9) < 0.3).float()
    yield "resnet20", sk.models.resnet20(2, width=0.0625), (torch.rand(2, 3, 2, 16, 16) < 0.3).float()
    yield "vgg16", sk.models.vgg16(3, width=0.0625), torch.rand(2, 2, 3, 32, 32)


@pytest.mark.parametrize(("net", "x"), [pytest.param(net, x, id=name) for name, net, x in nets()])
def test_one_batch_gives_its_numbers(theirs, net, x):
    wanted, found = theirs(net, [x]), neurobench(net, x).as_dict()
    assert found.pop("SynapticOperations") == pytest.approx(wanted.pop("SynapticOperations"), rel=1e-6)
    assert round(found.pop("ConnectionSparsity"), 4) == wanted.pop("ConnectionSparsity")
    assert found == pytest.approx(wanted)


def test_its_kind_of_operation_depends_on_the_batch_size(theirs):
    net = sk.Sequential(nn.Linear(3, 2), sk.LIF())
    x = torch.tensor([[[1.0, 0, 1], [0.5, 1, 0]]])
    whole, single = (theirs(net, parts)["SynapticOperations"] for parts in ([x], x.split(1, 1)))
    assert (whole["Effective_MACs"], whole["Effective_ACs"]) == (4, 0)
    assert (single["Effective_MACs"], single["Effective_ACs"]) == (2, 2)
    assert neurobench(net, x.split(1, 1)) == neurobench(net, x)
    assert neurobench(net, x).as_dict()["SynapticOperations"] == whole


def test_its_sums_are_rounded_beyond_24_bits(theirs):
    net = sk.Sequential(nn.Linear(4097, 4097), sk.LIF())
    x = torch.ones(1, 1, 4097)
    assert neurobench(net, x).dense == 4097**2
    assert theirs(net, [x])["SynapticOperations"]["Dense"] != 4097**2

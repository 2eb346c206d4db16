"""A way to learn tasks one after the other; plain training is the one that does nothing about forgetting."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.continual.batch import Batch
from spikekit.continual.guards import check_step
from spikekit.errors import CheckpointError, InputError
from spikekit.learning import BPTT, Listener, Loss, Result, Rule


class Method:
    """Plain training, and the base of what does better.

    Use, for every task:

        method.begin_task()
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
        for x, y in loader:                                             # x [T, B, ...]
            method.step(x, partial(CrossEntropy(), target=y), optimizer)
        method.end_task(batches)

    net: the network, changed in place. `task` is the number of the task that is learned or was learned last, from 1; 0
    before the first. `state_dict` and `load_state_dict` hold what the method knows, at any point of a task; the network
    has its own.
    """

    def __init__(self, net: nn.Module) -> None:
        if not isinstance(net, nn.Module):
            raise InputError(f"{type(self).__name__}: net must be an nn.Module, got {type(net).__name__}")
        self.net = net
        self.task = 0
        self.learning = False

    def begin_task(self) -> None:
        """Start the next task. Raises InputError in the midst of one."""
        if self.learning:
            raise InputError(f"{self._who}: task {self.task} was not ended; call end_task() first")
        self.task += 1
        try:
            self.train()
            self._begin()
        except BaseException:
            self.task -= 1
            raise
        self.learning = True

    def end_task(self, batches: Iterable[Batch] = ()) -> None:
        """End the task. batches: training data of it, for methods that look at them once more."""
        if not self.learning:
            raise InputError(f"{self._who}: no task was begun; call begin_task() first")
        self._end(batches)
        self.learning = False

    def train(self) -> None:
        """Put the network in train mode, as far as the method lets it."""
        self.net.train()

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser of this task may change. Raises InputError where there are none."""
        found = [p for p in self.net.parameters() if p.requires_grad]
        if not found:
            raise InputError(f"{self._who}: nothing of the network learns; every parameter has requires_grad=False")
        return found

    def mix(self, batch: Batch) -> Batch:
        """The batch to learn from when `batch` comes; called once a batch, in order."""
        return batch

    def step(self, x: Tensor, loss: Loss, optimizer: Optimizer, rule: Rule | None = None) -> Result:
        """One step of training on x [T, B, ...]; loss and rule (None: `BPTT()`) as in `spikekit.learning`."""
        if not self.learning:
            raise InputError(f"{self._who}: no task was begun; call begin_task() first")
        check_step(self.net, optimizer, rule, self._who)
        optimizer.zero_grad(set_to_none=True)
        self._check(optimizer)

        def update() -> None:
            self._update(optimizer)
            optimizer.zero_grad(set_to_none=True)

        return (BPTT() if rule is None else rule)(self.net, x, loss, listen=self._listener(x), update=update)

    def settings(self) -> dict[str, object]:
        """What the method was built with, as plain JSON: what a run must agree in to go on with another's state."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What the method knows, as tensors."""
        return {"task": torch.tensor([self.task, int(self.learning)])} | self._state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave, on a network built alike. Raises CheckpointError when it does not fit."""
        try:
            task, learning = state["task"].tolist()
            self._load({name: value for name, value in state.items() if name != "task"}, int(task), bool(learning))
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self._who}: the state is of another method or network ({error!r})") from error
        self.task, self.learning = int(task), bool(learning)

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _begin(self) -> None:
        """What a method does when `task` begins."""

    def _end(self, batches: Iterable[Batch]) -> None:
        """What a method does when `task` ends."""

    def _check(self, optimizer: Optimizer) -> None:
        """Refuse what the method cannot work with; called every step."""

    def _listener(self, x: Tensor) -> Listener | None:
        """Who is told of presynaptic signals of this step."""
        return None

    def _update(self, optimizer: Optimizer) -> None:
        """A step of the optimiser, with gradients as the method has them."""
        optimizer.step()

    def _state(self) -> dict[str, Tensor]:
        return {}

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        if state:
            raise KeyError(sorted(state)[0])


class Plain(Method):
    """Training on one task after the other, and nothing else: what forgetting is measured against."""

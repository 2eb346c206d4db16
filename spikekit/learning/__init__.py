"""Learning rules: backpropagation through time, OTTT, DSR, and backward passes without weight transport.

A rule is a small frozen object. It is called on a network, leaves gradients in `parameter.grad` as `backward()` does
(added to what is there), and changes nothing of the network, nor a spike of its forward pass:

    rule = sk.learning.OTTT()                              # or BPTT(), DSR()
    result = rule(net, x, loss)                            # x [T, B, ...]; loss(output [T', B, ...]) -> scalar
    optimizer.step()

`result.loss` is detached, `result.output` too. What the loss is given: BPTT, once, the output [T, B, ...] of all
steps; OTTT, T times, that of one step [1, B, ...], and the gradient is that of the mean over steps; DSR, once, the
representation of the output [1, B, ...]. The losses of `spikekit.train`, such as `partial(CrossEntropy(),
target=target)`, fit all three.

**Presynaptic signals.** `rule(net, x, loss, listen=listen)` calls `listen(name, layer, signal)` in the forward pass,
once a call of a weight layer (nn.Linear, nn.Conv1d/2d/3d and what is derived from them) whose weight learns, in the
order of the pass:

- name: the path of the layer in the network, as in `net.named_modules()`; layer: the module.
- signal: what multiplies the postsynaptic error in this rule's gradient of `layer.weight`, detached, not to be written
  to: [N, in_features] of an nn.Linear, [N, C, H, W] of an nn.Conv2d, N samples of one step or of several:
  - BPTT: the inputs of every step, N = T·B, one call a pass, time first;
  - OTTT: the traces of step t, N = B, T calls a pass;
  - DSR: the weighted rates, N = B, one call a pass.

So in every rule the weight gradient of one call is `error.T @ signal` (with patches for a convolution), and a
projection of the signals' space is a projection of `layer.weight.grad`. A listener may return other rows [N, features]
instead, one for each row of `error` (patches [N·places, C·kh·kw] for a convolution), or a part of N that stands for its
repetitions: they take the place of the signal in the gradient of the weight, and nowhere else.

`presynaptic(net, listen)` is the same for a pass of one's own: `with sk.learning.presynaptic(net, listen): y = net(x)`
reports what BPTT would; it works without gradients too.

**When to project and step.** `rule(net, x, loss, update=update)` calls `update()` whenever a step of the optimiser is
due: once, at the end of the pass, or with OTTT(every_step=True) after every time step. Project `weight.grad`, step,
and clear the gradients there. Without `update` gradients are left for the caller.

**Feedback.** `feedback_alignment(net)` and `sign_symmetry(net)` change the gradient that weight layers send to the
layer below, until `weight_transport(net)`, under any rule; the forward pass, a layer's own gradient for a given error
and the signals stay what they are.
"""

from spikekit.learning.bptt import BPTT, presynaptic
from spikekit.learning.dsr import DSR
from spikekit.learning.feedback import feedback_alignment, sign_symmetry, weight_transport
from spikekit.learning.ottt import OTTT
from spikekit.learning.rule import Loss, Result, Rule
from spikekit.learning.synapse import Listener

__all__ = [
    "BPTT",
    "DSR",
    "OTTT",
    "Listener",
    "Loss",
    "Result",
    "Rule",
    "feedback_alignment",
    "presynaptic",
    "sign_symmetry",
    "weight_transport",
]

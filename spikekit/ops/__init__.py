"""The maths of each neuron, and the fast ways to the same numbers: one folder an operation."""

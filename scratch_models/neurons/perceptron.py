"""A multi-layer perceptron of single neurons: what a matrix product computes, written out number by number."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from scratch_models.neurons.values import Value


class Neuron:
    """The weighted sum of its inputs and a bias, bent by tanh unless it is linear."""

    def __init__(self, inputs: int, generator: random.Random, *, is_linear: bool = False) -> None:
        bound = 1 / math.sqrt(inputs)  # so that the sum is of the size of one input, however many there are
        self.weights = [Value(generator.uniform(-bound, bound)) for _ in range(inputs)]
        self.bias = Value(0.0)
        self.is_linear = is_linear

    def __call__(self, inputs: Sequence[Value | float]) -> Value:
        """What the neuron says to its inputs."""
        total = self.bias
        for weight, number in zip(self.weights, inputs, strict=True):
            total = total + weight * number
        return total if self.is_linear else total.tanh()

    def parameters(self) -> list[Value]:
        """What is learned: the weights, then the bias."""
        return [*self.weights, self.bias]


class Layer:
    """Neurons side by side that read the same inputs."""

    def __init__(self, inputs: int, neurons: int, generator: random.Random, *, is_linear: bool = False) -> None:
        self.neurons = [Neuron(inputs, generator, is_linear=is_linear) for _ in range(neurons)]

    def __call__(self, inputs: Sequence[Value | float]) -> list[Value]:
        """One number of each neuron."""
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        """What is learned, neuron by neuron."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]


class MLP:
    """Layers one after the other, each reading the one before; the last is linear.

    >>> network = MLP([2, 8, 1], seed=0)
    >>> len(network([0.5, -1.0])), len(network.parameters())
    (1, 33)
    """

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        generator = random.Random(seed)
        last = len(sizes) - 2
        self.layers = [
            Layer(inputs, neurons, generator, is_linear=number == last)
            for number, (inputs, neurons) in enumerate(pairwise(sizes))
        ]

    def __call__(self, inputs: Sequence[Value | float]) -> list[Value]:
        """What the last layer says to the inputs of the first."""
        outputs: Sequence[Value | float] = inputs
        for layer in self.layers:
            outputs = layer(outputs)
        return [output for output in outputs if isinstance(output, Value)]

    def parameters(self) -> list[Value]:
        """What is learned, layer by layer."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

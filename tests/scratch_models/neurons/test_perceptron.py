import pytest
import torch
from torch import nn

from scratch_models.neurons.perceptron import MLP
from scratch_models.neurons.values import Value


def in_torch(network: MLP) -> nn.Sequential:
    """The same network of torch's layers, with the same weights."""
    modules: list[nn.Module] = []
    for layer in network.layers:
        linear = nn.Linear(len(layer.neurons[0].weights), len(layer.neurons), dtype=torch.float64)
        weights = [[weight.data for weight in neuron.weights] for neuron in layer.neurons]
        linear.weight.data = torch.tensor(weights, dtype=torch.float64)
        linear.bias.data = torch.tensor([neuron.bias.data for neuron in layer.neurons], dtype=torch.float64)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("sizes", [[2, 1], [3, 5, 2], [2, 8, 8, 1]])
def test_outputs_and_gradients_are_those_of_torch_layers_with_the_same_weights(sizes: list[int]) -> None:
    network = MLP(sizes, seed=3)
    for number, parameter in enumerate(network.parameters()):  # biases away from 0 too
        parameter.data += 0.01 * number
    theirs = in_torch(network)
    inputs = [0.3 * number - 0.5 for number in range(sizes[0])]
    outputs, expected = network(inputs), theirs(torch.tensor(inputs, dtype=torch.float64))
    assert [output.data for output in outputs] == pytest.approx(expected.tolist(), rel=1e-12)
    loss = sum((output * output for output in outputs), Value(0.0)) / len(outputs)
    loss.backward()
    (expected**2).mean().backward()
    gradients: list[float] = []
    parameters = list(theirs.parameters())
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        assert weight.grad is not None and bias.grad is not None
        gradients += torch.cat([weight.grad, bias.grad[:, None]], dim=1).flatten().tolist()
    assert [parameter.grad for parameter in network.parameters()] == pytest.approx(gradients, rel=1e-9)


def test_the_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        MLP([2, 1], seed=0)([1.0, 2.0, 3.0])

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scratch_models.neurons.values import Value, topological_order

LEAVES = 4
OPERATIONS = 12
EXPRESSIONS = 500


def random_expression(seed: int) -> tuple[list[float], Callable[[list[Any]], Any]]:
    """Leaves, and a function of them that runs on values and tensors alike; every operation can be in it.

    What is divided by, raised or taken the logarithm of is first made to lie well inside where that is defined.
    """
    generator = random.Random(seed)
    leaves = [generator.uniform(-2, 2) for _ in range(LEAVES)]
    steps = [
        (generator.randrange(15), generator.randrange(1000), generator.randrange(1000), generator.uniform(0.5, 2))
        for _ in range(OPERATIONS)
    ]

    def compute(numbers: list[Any]) -> Any:
        made = list(numbers)
        for operation, first, second, constant in steps:
            made.append(_apply(operation, made[first % len(made)], made[second % len(made)], constant))
        return sum(made[LEAVES:], made[0] * 0)

    return leaves, compute


def _apply(operation: int, a: Any, b: Any, constant: float) -> Any:
    bounded, positive = a.tanh(), b.tanh() + 1.5
    operations: list[Callable[[], Any]] = [
        lambda: a + b,
        lambda: a - b,
        lambda: bounded * b,
        lambda: a / positive,
        lambda: bounded**2,
        lambda: positive**bounded,
        lambda: positive**constant,
        lambda: constant**bounded,
        lambda: positive**-1,
        bounded.exp,
        positive.log,
        a.tanh,
        b.relu,
        lambda: constant - a,
        lambda: constant / positive,
    ]
    return operations[operation]()


@pytest.mark.parametrize("hundred", range(EXPRESSIONS // 100))
def test_values_and_gradients_of_random_expressions_are_those_of_torch(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        leaves, compute = random_expression(seed)
        ours = [Value(number) for number in leaves]
        theirs = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in leaves]
        our_result, their_result = compute(ours), compute(theirs)
        our_result.backward()
        their_result.backward()
        assert our_result.data == pytest.approx(their_result.item(), rel=1e-9, abs=1e-12)
        gradients = [tensor.grad.item() if tensor.grad is not None else 0.0 for tensor in theirs]
        assert [value.grad for value in ours] == pytest.approx(gradients, rel=1e-9, abs=1e-12), seed


def test_every_operation_takes_part_in_the_random_expressions() -> None:
    found = set()
    for seed in range(EXPRESSIONS):
        leaves, compute = random_expression(seed)
        result = compute([Value(number) for number in leaves])
        found |= {value.operation.split()[0] for value in topological_order(result) if value.operation}
    assert found == {"+", "-", "*", "/", "**", "exp", "log", "tanh", "relu"}


@pytest.mark.parametrize("depth", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_graph_deeper_than_the_recursion_limit_is_passed_back_through(depth: int) -> None:
    leaf = Value(1.0)
    result = leaf
    for _ in range(depth):
        result = result * 1.0 + leaf
    result.backward()
    assert result.data == leaf.grad == depth + 1


def test_a_number_used_many_times_over_is_visited_once() -> None:
    leaf = Value(1.0)
    result = leaf
    for _ in range(64):  # 2 ** 64 paths lead from the result to the leaf
        result = result + result
    result.backward()
    assert len(topological_order(result)) == 65
    assert leaf.grad == 2.0**64


def test_a_second_call_of_backward_adds_to_the_leaves_as_in_torch() -> None:
    ours, theirs = Value(0.7), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    our_result, their_result = (ours * ours).exp() * 3, (theirs * theirs).exp() * 3
    for _ in range(2):
        our_result.backward()
        their_result.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert theirs.grad is not None
    assert ours.grad == pytest.approx(theirs.grad.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("function", "at"),
    [
        (lambda x: x.relu(), 0.0),
        (lambda x: x**0, 0.0),
        (lambda x: x**1, 0.0),
        (lambda x: x**2, 0.0),
        (lambda x: x**0.5, 0.0),
        (lambda x: x**3, -2.0),
        (lambda x: x**-2, -2.0),
        (lambda x: x.tanh(), 400.0),
    ],
)
def test_at_the_edges_the_gradient_is_that_of_torch(function: Callable[[Any], Any], at: float) -> None:
    ours, theirs = Value(at), torch.tensor(at, dtype=torch.float64, requires_grad=True)
    function(ours).backward()
    function(theirs).backward()
    assert theirs.grad is not None
    assert ours.grad == theirs.grad.item() or math.isclose(ours.grad, theirs.grad.item())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: Value(-1).log(), "log of -1: expected a number above 0"),
        (lambda: Value(-1) ** 0.5, r"\*\* 0.5 of -1: expected a base of at least 0"),
        (lambda: Value(-1) ** Value(2), r"\*\* of -1: expected a base above 0"),
    ],
)
def test_what_has_no_derivative_is_refused(function: Callable[[], Value], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function()

"""A number that remembers what it was computed from, so that derivatives can be passed back to all of it.

Every operation keeps, beside its result, its operands and the local derivative by each of them. `backward` then walks
from the result to the leaves and applies the chain rule once an arrow:

    grad of an operand += local derivative by it * grad of the result

Source: reverse accumulation, Linnainmaa 1976, "Taylor expansion of the accumulated rounding error"; for networks,
Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors".
"""

import math


class Value:
    """A number of an expression, with the derivative of the result by it once `backward` was called.

    >>> weight, bias = Value(3.0), Value(1.0)
    >>> result = (weight * 2 + bias) ** 2
    >>> result.backward()
    >>> result.data, weight.grad, bias.grad
    (49.0, 28.0, 14.0)
    """

    __slots__ = ("data", "derivatives", "grad", "operands", "operation")

    def __init__(
        self,
        data: float,
        operation: str = "",
        operands: "tuple[Value, ...]" = (),
        derivatives: tuple[float, ...] = (),
    ) -> None:
        self.data = float(data)
        self.grad = 0.0
        self.operation = operation
        self.operands = operands
        self.derivatives = derivatives

    def __add__(self, other: "Value | float") -> "Value":
        other = _as_value(other)
        return Value(self.data + other.data, "+", (self, other), (1.0, 1.0))

    def __mul__(self, other: "Value | float") -> "Value":
        other = _as_value(other)
        return Value(self.data * other.data, "*", (self, other), (other.data, self.data))

    def __sub__(self, other: "Value | float") -> "Value":
        other = _as_value(other)
        return Value(self.data - other.data, "-", (self, other), (1.0, -1.0))

    def __truediv__(self, other: "Value | float") -> "Value":
        other = _as_value(other)
        quotient = self.data / other.data
        return Value(quotient, "/", (self, other), (1.0 / other.data, -quotient / other.data))

    def __pow__(self, exponent: "Value | float") -> "Value":
        if isinstance(exponent, Value):  # the derivative by the exponent is base ** exponent * log(base)
            _expect(self.data > 0, self, "**", "a base above 0 where the exponent is a Value")
            power = self.data**exponent.data
            derivatives = (_derivative_by_base(self.data, exponent.data), power * math.log(self.data))
            return Value(power, "**", (self, exponent), derivatives)
        _expect(self.data >= 0 or float(exponent).is_integer(), self, f"** {exponent}", "a base of at least 0")
        derivative = _derivative_by_base(self.data, exponent)
        return Value(self.data**exponent, f"** {exponent:g}", (self,), (derivative,))

    def exp(self) -> "Value":
        """The number e to the power of this one."""
        power = math.exp(self.data)
        return Value(power, "exp", (self,), (power,))

    def log(self) -> "Value":
        """The natural logarithm."""
        _expect(self.data > 0, self, "log", "a number above 0")
        return Value(math.log(self.data), "log", (self,), (1.0 / self.data,))

    def tanh(self) -> "Value":
        """The hyperbolic tangent, between -1 and 1."""
        squashed = math.tanh(self.data)
        return Value(squashed, "tanh", (self,), (1.0 - squashed**2,))

    def relu(self) -> "Value":
        """The number where it is positive, else 0; the derivative at 0 is 0, as in torch."""
        return Value(max(0.0, self.data), "relu", (self,), (float(self.data > 0),))

    def backward(self) -> None:
        """Adds to the `grad` of every leaf the derivative of this number by it.

        As in torch a leaf sums over calls, so that whoever trains sets it to 0 before each step; what lies between
        begins anew.
        """
        order = topological_order(self)
        for value in order:
            if value.operands:
                value.grad = 0.0
        self.grad += 1.0
        for value in reversed(order):
            for operand, derivative in zip(value.operands, value.derivatives, strict=True):
                operand.grad += derivative * value.grad

    def __neg__(self) -> "Value":
        return self * -1

    def __radd__(self, other: float) -> "Value":
        return self + other

    def __rmul__(self, other: float) -> "Value":
        return self * other

    def __rsub__(self, other: float) -> "Value":
        return Value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return Value(other) / self

    def __rpow__(self, base: float) -> "Value":
        return Value(base) ** self

    def __repr__(self) -> str:
        return f"Value(data={self.data:g}, grad={self.grad:g})"


def topological_order(result: Value) -> list[Value]:
    """Every number that a result was computed from, each after its operands, the result last.

    A list of what is still to do takes the place of recursion, whose depth Python limits to about 1,000 calls.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    to_do = [(result, False)]
    while to_do:
        value, operands_are_placed = to_do.pop()
        if operands_are_placed:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            to_do.append((value, True))
            to_do += [(operand, False) for operand in value.operands]
    return order


def _as_value(number: Value | float) -> Value:
    return number if isinstance(number, Value) else Value(number)


def _derivative_by_base(base: float, exponent: float) -> float:
    if exponent == 0:
        return 0.0
    if base == 0 and 0 < exponent < 1:
        return math.inf
    return float(exponent * base ** (exponent - 1))


def _expect(holds: bool, value: Value, operation: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{operation} of {value.data:g}: expected {expected}")

"""The graph of an expression in Graphviz's DOT language, drawn by its program `dot` where that is installed.

Source of the language: https://graphviz.org/doc/info/lang.html; of records: https://graphviz.org/doc/info/shapes.html.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from configs.whole_folder import write_whole
from scratch_models.neurons.values import Value, topological_order

HOW_TO_GET_DOT = "apt install graphviz, brew install graphviz, or graphviz.org/download"


def write_dot(result: Value, names: Mapping[str, Value]) -> str:
    """The graph as DOT text: one node a number, with its name or operation, its value and its gradient.

    >>> weight = Value(3.0)
    >>> result = weight * 2
    >>> result.backward()
    >>> print(write_dot(result, {"weight": weight}))
    digraph {
      rankdir=LR
      node [shape=record]
      n0 [label="{2|value 2|gradient 3}"]
      n1 [label="{weight|value 3|gradient 2}"]
      n2 [label="{*|value 6|gradient 1}"]
      n1 -> n2
      n0 -> n2
    }
    """
    order = topological_order(result)
    numbers = {value: number for number, value in enumerate(order)}
    name_of = {value: name for name, value in names.items()}
    nodes = [f'  n{numbers[value]} [label="{_label(value, name_of.get(value))}"]' for value in order]
    arrows = [f"  n{numbers[operand]} -> n{numbers[value]}" for value in order for operand in value.operands]
    return "\n".join(["digraph {", "  rankdir=LR", "  node [shape=record]", *nodes, *arrows, "}"])


def draw_dot(file: Path) -> Path | None:
    """The drawing that `dot` makes beside a .dot file, as SVG; None where the program is not installed."""
    if shutil.which("dot") is None:
        return None
    drawing = file.with_suffix(".svg")
    write_whole(drawing, subprocess.run(["dot", "-Tsvg", file], check=True, stdout=subprocess.PIPE).stdout)
    return drawing


def _label(value: Value, name: str | None) -> str:
    title = " = ".join(filter(None, [name, value.operation])) or f"{value.data:.4g}"
    # Within the label of a record these characters divide it, and a quote would end it.
    escaped = re.sub(r'([\\{}|<>" ])', r"\\\1", title)
    return f"{{{escaped}|value {value.data:.4g}|gradient {value.grad:.4g}}}"

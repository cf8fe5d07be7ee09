import re
import shutil
from pathlib import Path

import pytest

from scratch_models.neurons.value_graph import draw_dot, write_dot
from scratch_models.neurons.values import Value


def hostile_graph() -> str:
    """The graph of a product whose leaf has a name of characters that mean something in a label."""
    leaf = Value(2.0)
    result = leaf * leaf
    result.backward()
    return write_dot(result, {'a|b {c} <d> "e" \\': leaf})


def test_a_node_shows_name_value_and_gradient_and_an_arrow_leads_from_every_operand() -> None:
    leaf, other = Value(2.0), Value(-3.0)
    result = (leaf * other).tanh()
    result.backward()
    text = write_dot(result, {"leaf": leaf})
    assert f"{{leaf|value 2|gradient {leaf.grad:.4g}}}" in text
    assert len(re.findall(r"^  n\d+ \[label", text, re.MULTILINE)) == 4
    assert len(re.findall(r"^  n\d+ -> n\d+$", text, re.MULTILINE)) == 3


def test_a_number_taken_twice_has_one_node_and_two_arrows() -> None:
    text = hostile_graph()
    assert text.count("label=") == 2
    assert text.count("n0 -> n1") == 2


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program dot is not installed")
def test_graphviz_draws_every_node_whatever_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "graph.dot"
    file.write_text(hostile_graph(), encoding="utf-8")
    drawing = draw_dot(file)
    assert drawing is not None
    words = drawing.read_text(encoding="utf-8")
    assert words.count('class="node"') == 2
    assert "value 2" in words and "gradient 4" in words and "a|b {c} &lt;d&gt; &quot;e&quot; \\" in words


def test_without_graphviz_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert draw_dot(tmp_path / "graph.dot") is None
    assert list(tmp_path.iterdir()) == []

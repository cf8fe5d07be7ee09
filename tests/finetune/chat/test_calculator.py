"""The calculator: equal to exact fractions and to GSM8K's own results, and nothing in it runs or takes long."""

import json
import re
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError
from finetune.chat.calculator import ANNOTATION, evaluate, split_results, value_of, write_number
from tests.house.repository import ROOT

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"


@pytest.fixture(scope="module")
def answers():
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not there")
    return [json.loads(line)["answer"] for line in GSM8K.read_text(encoding="utf-8").splitlines()]


def test_every_result_of_gsm8k_is_given_in_value_and_nearly_all_to_the_letter(answers):
    found = [annotation for answer in answers for annotation in ANNOTATION.finditer(answer)]
    assert len(found) == sum(answer.count("<<") for answer in answers)
    given_results = [(evaluate(one["expression"]), one["result"]) for one in found]
    assert all(Fraction(ours) == Fraction(theirs) for ours, theirs in given_results)
    # The rest of them are written `144.00`, `.5` or `4.80`.
    assert sum(ours == theirs for ours, theirs in given_results) / len(found) > 0.97


def test_the_pieces_of_every_gsm8k_answer_are_its_text_and_exactly_the_results_are_not_learned(answers):
    for answer in answers:
        pieces = split_results(answer)
        assert "".join(text for text, _ in pieces) == answer
        given_texts = [text for text, learned in pieces if not learned]
        assert given_texts == [f"{part.split('>>')[0].split('=')[1]}>>" for part in answer.split("<<")[1:]]


numbers = st.decimals(min_value=0, max_value=999, places=2).map(str) | st.integers(0, 9999).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", "-", "*", " /", "//"]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=6,
)


def _by_python(expression):
    """The value by Python's own grammar: an authority that only expressions made here may be given to."""
    exact = re.sub(r"\d+\.?\d*", lambda found: f"Fraction('{found[0]}')", expression)
    return Fraction(eval(exact, {"Fraction": Fraction}))


@given(expressions)
def test_order_and_value_are_pythons_own_over_fractions(expression):
    try:
        expected = _by_python(expression)
    except ZeroDivisionError:
        with pytest.raises(InputError, match="divides by zero"):
            value_of(expression)
    else:
        assert value_of(expression) == expected


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2**10", "1024"),
        ("2**3**2", "512"),
        ("-2**2", "-4"),
        ("2**-2", "0.25"),
        ("(1/3)**2*9", "1"),
        ("1,250*2", "2500"),
        (" ( 1 + 2 ) * 3 ", "9"),
        ("5--3", "8"),
        ("7//2*2", "6"),
        (".5+3.", "3.5"),
        ("007", "7"),
        ("1/3+1/3+1/3", "1"),  # exact in between, unlike floats
        ("0.1+0.2", "0.3"),
    ],
)
def test_arithmetic_as_people_write_it(expression, value):
    assert evaluate(expression) == value


@given(st.fractions(min_value=-(10**9), max_value=10**9))
def test_what_is_written_is_the_number_or_six_digits_of_it(value):
    written = write_number(value)
    assert Fraction(written) == value or abs(Fraction(written) - value) <= abs(value) * Fraction(1, 10**5)
    assert format(Decimal(written), "f") == written, "no exponent, no sign of a zero"
    assert not ("." in written and written.endswith(("0", "."))) and written != "-0"


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch owned')",
        "().__class__",
        "1 if 1 else 2",
        "[1]",
        "x",
        "1e9",
        "0x10",
        "1_000",
        "٣+1",
        "²",
        "1;2",
        "a=1",
        "",
        " ",
        ".",
        "1 2",
        "1,00",
        "(1",
        "1)",
        "1+",
        "*2",
        "1//0",
        "1/(2-2)",
        "0**-1",
        "2**0.5",
    ],
)
def test_what_is_no_arithmetic_is_refused_in_one_line(expression):
    with pytest.raises(InputError, match="expected numbers") as refused:
        evaluate(expression)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9**9",
        "9**999999999",
        "2**-999999999",
        "(" * 50 + "1" + ")" * 50,
        "-" * 199 + "1",
        "(9**50)*(9**50)*(9**50)",
        "1" * 150,
        "*".join(["9999999999"] * 18),
        "1+" * 100 + "1",
        "1" * 100_000,
    ],
)
def test_no_expression_takes_long_and_big_ones_are_refused(expression):
    begun = time.perf_counter()
    try:
        assert len(evaluate(expression)) <= 101
    except InputError as refusal:
        assert len(str(refusal)) < 300
    assert time.perf_counter() - begun < 2


@given(st.text(alphabet="<>=0123456789.+-*/() a\n", max_size=60))
def test_pieces_add_up_to_any_text_and_what_is_not_learned_follows_arithmetic(text):
    pieces = split_results(text)
    assert "".join(piece for piece, _ in pieces) == text
    for before, after in zip([("", True), *pieces], pieces, strict=False):
        if not after[1]:
            assert before[1] and before[0].endswith("=") and after[0].endswith(">>")


@pytest.mark.parametrize("text", ["<<__import__('os')=1>>", "cout << x=1 >> y", "<<=1>>", "<<()=1>>", "<<1+1=2", "1=1"])
def test_what_holds_no_arithmetic_is_no_annotation(text):
    assert split_results(text) == [(text, True)]


@pytest.mark.parametrize("text", ["<<" + "1" * 10**6, "<<1" * 300_000, "<<" + "(" * 10**6, "<<1=" * 200_000])
def test_hostile_text_is_split_in_time_proportional_to_its_length(text):
    begun = time.perf_counter()
    split_results(text)
    assert time.perf_counter() - begun < 2

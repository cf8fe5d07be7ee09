"""GSM8K learned on the embedded base with the calculator: held-out bits per byte, and whether its arithmetic is right.

    python -m tests.benchmarks.gsm8k_calculator

It runs `finetune/sft.py` as a user would with `--calculator true` for a few steps, loads the assistant back, and asks
it and the base the same held-out questions as `finetune.compare --data` does. Results inside << >> are checked by
Python's own arithmetic over fractions, not by the calculator that gave them. A second run of the same steps without the
calculator, which learns the results as text, shows what the calculator is worth. About 4 minutes on one core; it needs
`../shared/data/gsm8k_train.jsonl`, or `--data FILE` with annotations as GSM8K has them.
"""

import argparse
import re
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import torch

from finetune.chat.calculator import ANNOTATION, NO_VALUE
from finetune.conversations.splits import read_conversation_splits
from finetune.evaluation.comparison import Asking, measure_replies
from finetune.evaluation.scoring import GREEDY
from finetune.export.opened_sides import open_local
from finetune.replies.local_side import LocalSide
from finetune.replies.side import asked_over_data
from finetune.sft import main as fine_tune
from finetune.supervised.settings import SftSettings
from scratch_models.embedded.default import EMBEDDED
from tests.house.repository import ROOT

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"


def main() -> None:
    """Trains, asks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=GSM8K)
    parser.add_argument("--max_steps", type=int, default=45)
    parser.add_argument("--questions", type=int, default=40, help="held-out questions that both are asked")
    parser.add_argument("--reply_tokens", type=int, default=160)
    given = parser.parse_args()
    if not given.data.is_file():
        print(f"skipped: {given.data} is not there")
        return
    torch.set_num_threads(1)
    tuned, seconds = train(given, calculator=True)
    without, _ = train(given, calculator=False)
    print_figures(given, tuned, without, seconds)


def train(given: argparse.Namespace, *, calculator: bool) -> tuple[LocalSide, float]:
    """The assistant of a short run, loaded back from its folder, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.perf_counter()
        fine_tune(settings_for(given, run, calculator))
        return open_local(str(run)), time.perf_counter() - started


def settings_for(given: argparse.Namespace, run: Path, calculator: bool) -> SftSettings:
    """A short run; its own evaluations are left out."""
    return SftSettings(
        data=str(given.data),
        calculator=calculator,
        new_tokens=0,
        max_steps=given.max_steps,
        conversations_per_step=12,
        learning_rate=4e-3,
        warmup_steps=5,
        lora_rank=32,
        lora_alpha=64.0,
        maximum_tokens=512,
        precision="fp32",
        evaluation_conversations=4,
        evaluation_steps=0,
        checkpoint_steps=0,
        reply_tokens=8,
        output_dir=str(run),
    )


def print_figures(given: argparse.Namespace, tuned: LocalSide, without: LocalSide, seconds: float) -> None:
    """The comparison, then what was wanted beside what was seen."""
    of_base, of_tuned = (asked_over_data(side, "auto", calculator=True) for side in (open_local(EMBEDDED), tuned))
    held_out = list(read_conversation_splits(str(given.data)).held_out)
    measured = measure_replies(of_base, of_tuned, held_out, Asking(given.questions, given.reply_tokens))
    sources = {question["source"] for question in measured.questions}
    asked = [conversation for conversation in held_out if conversation.source in sources]
    right, wrong, without_value = check([question["tuned"]["chat"]["reply"] for question in measured.questions])
    made_up = check([one.text for one in without.in_chat().answer(asked, given.reply_tokens, GREEDY)])
    bits = measured.figures[0]
    print(f"\n{given.max_steps} steps in {seconds:.0f} s, one thread\n{measured.text}\n")
    print(f"{'':<52} {'wanted':>12}   seen")
    print(f"{'held-out bits per byte, results left out of both':<52} {f'< {bits.base:.3f}':>12}   {bits.tuned:.3f}")
    print(f"{'results inside << >> that are right':<52} {'100 %':>12}   {percent(right, wrong)}")
    print(f"{'arithmetic without a value, answered with an error':<52} {'-':>12}   {without_value}")
    print(f"{'results right after the same run without calculator':<52} {'-':>12}   {percent(*made_up[:2])}")


def check(replies: list[str]) -> tuple[int, int, int]:
    """Results that are right, wrong, and that the calculator answered with an error, by Python's own arithmetic."""
    found = [annotation for reply in replies for annotation in ANNOTATION.finditer(reply)]
    with_value = [one for one in found if one["result"] != NO_VALUE]
    right = sum(is_right(one["expression"], one["result"]) for one in with_value)
    return right, len(with_value) - right, len(found) - len(with_value)


def is_right(expression: str, result: str) -> bool:
    """Whether the result is the expression's value, to six digits where it has no short decimal form.

    >>> is_right("48/2", "24"), is_right("10/3", "3.33333"), is_right("48/2", "25")
    (True, True, False)
    """
    bare = re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", expression)
    # Nothing but digits and signs gets past here, and no powers, which Python would raise to any height.
    if not re.fullmatch(r"[0-9+\-*/(). ]+", bare) or "**" in bare or not re.fullmatch(r"-?[0-9]*\.?[0-9]+", result):
        return False
    try:
        value = eval(
            re.sub(r"[0-9]*\.?[0-9]+\.?", lambda found: f"Fraction('{found[0]}')", bare), {"Fraction": Fraction}
        )
    except (SyntaxError, ZeroDivisionError, TypeError):
        return False
    return abs(Fraction(result) - value) <= abs(value) * Fraction(1, 10**5)


def percent(right: int, wrong: int) -> str:
    """The share with its counts."""
    return f"{right / (right + wrong):.1%} ({right} of {right + wrong})" if right + wrong else "none was written"


if __name__ == "__main__":
    main()

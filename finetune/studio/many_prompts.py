"""Many prompts answered by several models, nobody watching, and what can be counted of the replies without a judge."""

import json
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from configs import InputError
from finetune.evaluation.reply_checks import is_right
from finetune.serving.asked_together import SideAsked, SideState, ask_together

MOST_PROMPTS = 500
PROMPTS_AT_ONCE = 4


@dataclass(frozen=True)
class GivenPrompt:
    """One prompt, and its known answer where there is one."""

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class AnsweredPrompt:
    """What all sides made of it."""

    given: GivenPrompt
    states: tuple[SideState, ...]


def read_prompts(text: str) -> list[GivenPrompt]:
    """The prompts in a text: one a line, or a JSON object a line with a question, a prompt or messages.

    Raises:
        InputError: there is none, there are too many, or a line of JSON holds no question; its number.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError("prompts: found none, expected one a line, or JSON lines with a question each")
    if len(lines) > MOST_PROMPTS:
        raise InputError(f"prompts: found {len(lines):,}, expected at most {MOST_PROMPTS}: ask fewer")
    if not lines[0][1].startswith("{"):
        return [GivenPrompt(line) for _, line in lines]
    return [_of_record(number, line) for number, line in lines]


def answer_all(
    prompts: Sequence[GivenPrompt], asked: Callable[[str], list[SideAsked]], stop: threading.Event
) -> Generator[list[AnsweredPrompt]]:
    """What has been answered so far, after every few prompts; it ends early once `stop` is set."""
    done: list[AnsweredPrompt] = []
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        some = prompts[start : start + PROMPTS_AT_ONCE]
        sides = [asked(one.prompt) for one in some]
        *_, states = ask_together([side for one in sides for side in one], stop)
        if stop.is_set():
            return
        places = iter(states)
        done = [
            *done,
            *(
                AnsweredPrompt(one, tuple(next(places) for _ in of_one))
                for one, of_one in zip(some, sides, strict=True)
            ),
        ]
        yield done


def slices(answered: Sequence[AnsweredPrompt], side: int, contains: str = "", starts: str = "") -> dict[str, str]:
    """What is counted of a side's replies: how long, how many end by themselves, contain or start so, are right."""
    states = [one.states[side] for one in answered]
    replies = [state.reply for state in states]
    found = {
        "words, mean": f"{sum(len(reply.text.split()) for reply in replies) / max(1, len(replies)):.1f}",
        "tokens, mean": f"{sum(reply.pieces for reply in replies) / max(1, len(replies)):.1f}",
        "end by themselves": _share([reply.ended.startswith("end") for reply in replies]),
    }
    if contains:
        found[f"contain {contains!r}"] = _share([contains.lower() in reply.text.lower() for reply in replies])
    if starts:
        found[f"start with {starts!r}"] = _share([reply.text.lower().startswith(starts.lower()) for reply in replies])
    known = [(reply.text, one.given.answer) for reply, one in zip(replies, answered, strict=True) if one.given.answer]
    if known:
        found["exact answer"] = _share([is_right(said, wanted) for said, wanted in known])
    refused = sum(bool(state.refused) for state in states)
    return found | ({"refused": f"{refused} of {len(states)}"} if refused else {})


def to_jsonl(answered: Sequence[AnsweredPrompt], names: Sequence[str]) -> str:
    """A line a prompt, with what each model said and how it ended."""
    lines = []
    for one in answered:
        replies = [
            {"model": name, "reply": state.reply.text, "ended": state.refused or state.reply.ended}
            for name, state in zip(names, one.states, strict=True)
        ]
        known = {} if one.given.answer is None else {"answer": one.given.answer}
        lines.append(json.dumps({"prompt": one.given.prompt, **known, "replies": replies}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def _of_record(number: int, line: str) -> GivenPrompt:
    place = f"prompts, line {number}"
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: is no JSON ({error}), expected an object as the first line is") from None
    if isinstance(record, dict) and isinstance(record.get("prompt") or record.get("question"), str):
        answer = record.get("answer", record.get("completion"))
        return GivenPrompt(record.get("prompt") or record["question"], answer if isinstance(answer, str) else None)
    messages = record.get("messages") if isinstance(record, dict) else None
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        asked = [one for one in messages if isinstance(one, dict) and one.get("role") == "user"]
        said = [one for one in messages if isinstance(one, dict) and one.get("role") == "assistant"]
        if asked and isinstance(asked[0].get("content"), str):
            answer = said[0].get("content") if said else None
            return GivenPrompt(asked[0]["content"], answer if isinstance(answer, str) else None)
    raise InputError(f"{place}: found no question, expected one of question, prompt, messages")


def _share(holds: Sequence[bool]) -> str:
    return f"{sum(holds)} of {len(holds)}"

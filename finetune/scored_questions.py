"""Questions whose answers can be scored, read from any records that have an `answer`.

The formats are those of `conversations`; with `answer` beside it, a question alone is enough: ``question``, ``prompt``,
``instruction`` or ``messages`` that end with the user's. An answer may be worked out, as GSM8K's are: what follows its
last ``####`` is what a reply is compared with, else the whole of it. With ``choices`` it is multiple choice.
"""

from collections.abc import Mapping

from configs import InputError
from finetune.conversation_sets import until_last_reply
from finetune.conversations import Conversation, final_answer, to_conversation
from finetune.multiple_choice import ChoiceQuestion, to_choice_question
from finetune.records import parse_record, read_records

Question = Conversation | ChoiceQuestion
FILLER = "?"


def read_questions(data: str) -> tuple[list[Conversation], list[ChoiceQuestion]]:
    """The conversations of the data, each up to its last reply, and its multiple-choice questions.

    Raises: InputError with the place and field of the first bad record and the number of others; nothing is skipped.
    """
    questions: list[Question] = []
    errors: list[InputError] = []
    for place, record in read_records(data):
        try:
            questions.append(to_question(parse_record(place, record), place))
        except InputError as error:
            errors.append(error)
    if errors:
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{others}")
    if not questions:
        raise InputError(f"{data}: found 0 questions, expected at least one JSON object")
    return (
        [one for one in questions if isinstance(one, Conversation)],
        [one for one in questions if isinstance(one, ChoiceQuestion)],
    )


def to_question(record: Mapping[str, object], place: str) -> Question:
    """What one record asks.

    >>> to_question({"prompt": "Half of 48?", "answer": 24}, "quiz.jsonl:1").answer
    '24'

    Raises: InputError that begins with `place`.
    """
    if record.get("choices") is not None:
        # The choices are the replies; to read the question alone it gets one that is never looked at.
        return to_choice_question(record, _with_reply(record, FILLER, place).messages[:-1], place)
    answer = _written(record.get("answer"))
    if answer is None:
        return until_last_reply(to_conversation(record, place))
    conversation = _with_reply(record, answer, place)
    text = str(answer)
    return Conversation(conversation.messages, place, final_answer(text) or text.strip())


def _with_reply(record: Mapping[str, object], answer: object, place: str) -> Conversation:
    """The conversation of a record; the answer becomes the reply where a question stands alone."""
    answered = {**record, "answer": answer}
    prompt = record.get("prompt") if "completion" not in record else None
    messages = record.get("messages", prompt)
    if isinstance(messages, list) and _is_the_users(messages[-1:]):
        answered = {"messages": [*messages, {"role": "assistant", "content": answer}], "answer": answer}
    elif "messages" not in record and prompt is not None:
        answered = {"question": prompt, "answer": answer}
    elif "instruction" in record and "output" not in record:
        answered["output"] = answer
    return until_last_reply(to_conversation(answered, place))


def _is_the_users(last: list[object]) -> bool:
    return any(isinstance(message, dict) and message.get("role") == "user" for message in last)


def _written(answer: object) -> object:
    """A number as it would be written; anything else is left to be read, or refused, as it is."""
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    return str(answer) if is_number else answer

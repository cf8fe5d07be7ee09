"""The questions that a prompt is distilled on, and those that are held out, from conversations of any form."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.messages import Conversation, Message, needs
from finetune.conversations.splits import read_conversation_splits
from finetune.gisting.settings import GistSettings
from scratch_models.corpus.evenly_spaced import evenly_spaced

OWN_SYSTEM_TURN = "questions whose own system turn the prompt takes the place of"
TOOLS = "questions with tools or reasoning, left out"
TOO_LONG = "questions too long for the model with prompt and reply, left out"


@dataclass(frozen=True)
class Question:
    """What is asked: all that was said before the last reply, without a system turn."""

    messages: tuple[Message, ...]
    source: str


@dataclass(frozen=True)
class Questions:
    """Two sets without a question in common."""

    training: list[Question]
    held_out: list[Question]
    sha256: str
    counted: Mapping[str, int]
    """What was left out or changed -> how often."""

    def describe(self) -> str:
        """How many there are, and what became of others."""
        counted = "".join(f"; {number:,} {what}" for what, number in self.counted.items() if number)
        return f"{len(self.training):,} questions to learn from, {len(self.held_out):,} held out{counted}"

    def fitting(self, after_prompt: Callable[[Sequence[Message]], list[int]], room: int | None) -> "Questions":
        """Those that leave room for a reply behind the whole prompt.

        Args:
            after_prompt: The ids of a question behind the prompt.
            room: The most ids that it may have; None where there is no limit.

        Raises:
            InputError: none of one of the sets does.

        """
        if room is None:
            return self
        kept = list[list[Question]]()
        for questions in (self.training, self.held_out):
            lengths = [len(after_prompt(question.messages)) for question in questions]
            if min(lengths) > room:
                raise InputError(
                    f"prompt: with the shortest question it has {min(lengths):,} tokens, expected at most {room:,}, "
                    "which the model has positions for before a reply: shorten the prompt, or lower --reply_tokens"
                )
            kept.append([one for one, length in zip(questions, lengths, strict=True) if length <= room])
        too_long = len(self.training) + len(self.held_out) - sum(map(len, kept))
        return Questions(kept[0], kept[1], self.sha256, {**self.counted, TOO_LONG: too_long})


def read_questions(settings: GistSettings) -> Questions:
    """The questions of the data, as many as the settings say, spread over all.

    Raises:
        InputError: the data cannot be read, or none of its conversations can be asked.

    """
    splits = read_conversation_splits(settings.data, settings.held_out)
    counted: Counter[str] = Counter()
    sets = list[list[Question]]()
    for name, conversations, number in (
        ("data", splits.training, settings.questions),
        ("held_out", splits.held_out, settings.evaluation_questions),
    ):
        chosen = evenly_spaced(conversations, number)
        askable = [one for one in chosen if not needs(one)]
        counted[TOOLS] += len(chosen) - len(askable)
        counted[OWN_SYSTEM_TURN] += sum(any(said.role == "system" for said in one.messages) for one in askable)
        if not askable:
            raise InputError(
                f"{name}: all {len(chosen)} questions that were chosen need tools or reasoning, expected plain text"
            )
        sets.append([_question(one) for one in askable])
    return Questions(sets[0], sets[1], splits.sha256(), counted)


def _question(conversation: Conversation) -> Question:
    said = tuple(message for message in conversation.messages[:-1] if message.role != "system")
    return Question(said, conversation.source)

"""Shows what tuning changed: both replies to a prompt, or the figures of both models over a file.

    python -m finetune.compare --tuned runs/sft-1 --prompt "What does torch.sum do?"
    python -m finetune.compare --base openai-community/gpt2 --tuned runs/sft-2 --data my_questions.jsonl

The base is asked in plain text, the tuned model in its chat format, both with the same noise.
"""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.conversation_sets import EMBEDDED, read_conversation_sets, until_last_reply
from finetune.conversations import Conversation, Message, read_conversations
from finetune.evaluation import answer, ask_in_chat, ask_plainly, best_scores, choose_askable, plain_ways
from finetune.export import find_base, load_assistant
from finetune.score_table import to_text
from finetune.ways import ChatWay, Way
from scratch_models.embedded_base import EMBEDDED_BASE
from scratch_models.sampling import Sampling
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import printable, quiet_libraries

Model = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Two models and what they are asked."""

    tuned: str
    """Assistant: a run's folder, its `final/`, an adapter beside its base, or a model with the chat format."""
    base: str | None = None
    """Model to compare it with: `embedded`, a folder or a Hub name; by default the one that its run started from."""
    prompt: str | None = None
    """A question; both replies are printed."""
    data: str | None = None
    """Conversations whose last replies both are measured on: `embedded` (its held-out ones), a file or a Hub name."""
    conversations: int = 200
    """How many conversations of the data are asked, spread evenly."""
    plain_prompt: Literal["question", "dialogue", "bare"] = "question"
    """How the base is asked a prompt; over data it is asked in all three ways."""
    reply_tokens: int = 96
    """Longest reply in tokens."""
    temperature: float = 0.0
    """Divides the logits of a prompt's replies; 0 takes the likeliest token every time. Data is always answered so."""
    top_k: int = 0
    """Only the k likeliest tokens can be drawn; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest tokens that together hold this probability can be drawn; 1 is off."""
    seed: int = 0
    """Seed of the draws, for both models."""

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.data is None):
            raise InputError("pass either --prompt TEXT, to see both replies, or --data FILE, to measure both models")
        if self.prompt is not None and not self.prompt.strip():
            raise InputError("prompt: is empty, expected a question")
        _ = self.sampling  # refuses bad values before any weights load
        for field in ("conversations", "reply_tokens"):
            if getattr(self, field) < 1:
                raise InputError(f"{field}: found {getattr(self, field)}, expected at least 1")

    @property
    def sampling(self) -> Sampling:
        """How replies to a prompt are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)


def main(settings: CompareSettings) -> None:
    """Loads both models, asks both, shows what they say."""
    quiet_libraries()
    conversations = read_asked(settings.data) if settings.data is not None else []
    folder = choose_base(settings)
    tuned = load_assistant(settings.tuned)
    base = load_model(folder), load_tokenizer(folder)
    if settings.prompt is not None:
        print(show_replies(base, tuned, settings.prompt, settings))
    else:
        print(measure(base, tuned, conversations, settings))


def choose_base(settings: CompareSettings) -> str:
    """The folder or name of the base: the one given, else the one in the run's record.

    Raises:
        InputError: neither says it.

    """
    base = settings.base or find_base(settings.tuned)
    if base is None:
        raise InputError(f"base: no run.json in {settings.tuned} says what it was made from: pass --base")
    return str(EMBEDDED_BASE) if base == EMBEDDED else base


def show_replies(base: Model, tuned: Model, prompt: str, settings: CompareSettings) -> str:
    """Both replies to the prompt."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    plain = plain_ways(base[1])[settings.plain_prompt]
    ways: dict[str, tuple[PreTrainedModel, Way]] = {"base": (base[0], plain), "tuned": (tuned[0], ChatWay(tuned[1]))}
    shown = []
    for name, (model, way) in ways.items():
        reply = answer(model, way, [asked], settings.reply_tokens, settings.sampling)[0]
        end = "" if reply.stopped else f" [{settings.reply_tokens} tokens, not ended]"
        shown.append(f"{name}:\n{printable(reply.reply)}{end}")
    return "\n\n".join(shown)


def read_asked(data: str) -> list[Conversation]:
    """The conversations of the data, each up to its last reply; of the embedded data those that are held out."""
    if data == EMBEDDED:
        return read_conversation_sets(data).held_out
    return [until_last_reply(conversation) for conversation in read_conversations(data)]


def measure(base: Model, tuned: Model, conversations: list[Conversation], settings: CompareSettings) -> str:
    """The table over the conversations that can be asked of both models, with the number of those left out."""
    ways: list[tuple[PreTrainedModel, Way]] = [(base[0], way) for way in plain_ways(base[1]).values()]
    ways.append((tuned[0], ChatWay(tuned[1])))
    asked = choose_askable(conversations, settings.conversations, ways)
    of_base = ask_plainly(*base, asked, settings.reply_tokens)
    of_tuned = ask_in_chat(*tuned, asked, settings.reply_tokens)
    chosen = min(settings.conversations, len(conversations))
    return (
        f"{to_text(best_scores([one.scores for one in of_base.values()]), of_tuned.scores)}\n"
        f"asked {len(asked)} of {len(conversations)} conversations, spread evenly; "
        f"{chosen - len(asked)} left out as too long for the models or without a question"
    )


if __name__ == "__main__":
    run_entry(main, CompareSettings)

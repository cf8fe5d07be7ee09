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
from finetune.evaluation import ChatWay, PlainWay, Way, answer, ask_plainly, best_scores, fits, interview
from finetune.export import load_assistant
from finetune.plain_prompts import PLAIN_PROMPTS
from finetune.report import to_text
from scratch_models.embedded_base import EMBEDDED_BASE
from scratch_models.sampling import Sampling
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import quiet_libraries

Model = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Two models and what they are asked."""

    tuned: str
    """Assistant: a run's folder, its `final/`, an adapter beside its base, or a model with the chat format."""
    base: str = EMBEDDED
    """Model that it was made from: `embedded`, a folder or a Hub name."""
    prompt: str | None = None
    """A question; both replies are printed."""
    data: str | None = None
    """Conversations whose last replies both models are measured on: `embedded` (its held-out questions), a file or Hub name."""
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
        self.sampling  # noqa: B018 - refuses bad values before any weights load
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
    tuned = load_assistant(settings.tuned)
    folder = str(EMBEDDED_BASE) if settings.base == EMBEDDED else settings.base
    base = load_model(folder), load_tokenizer(folder)
    if settings.prompt is not None:
        print(show_replies(base, tuned, settings))
    else:
        print(measure(base, tuned, conversations, settings))


def show_replies(base: Model, tuned: Model, settings: CompareSettings) -> str:
    """Both replies to the prompt."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", settings.prompt or ""), Message("assistant", "")), source="prompt")
    plain = PlainWay(base[1], PLAIN_PROMPTS[settings.plain_prompt])
    ways: dict[str, tuple[PreTrainedModel, Way]] = {"base": (base[0], plain), "tuned": (tuned[0], ChatWay(tuned[1]))}
    replies = {
        name: answer(model, way, [asked], settings.reply_tokens, settings.sampling)[0]
        for name, (model, way) in ways.items()
    }
    ends = {
        name: "" if reply.stopped else f" [{settings.reply_tokens} tokens, not ended]"
        for name, reply in replies.items()
    }
    return "\n\n".join(f"{name}:\n{reply.reply}{ends[name]}" for name, reply in replies.items())


def read_asked(data: str) -> list[Conversation]:
    """The conversations of the data, each up to its last reply."""
    if data == EMBEDDED:
        return read_conversation_sets(data).held_out
    return [until_last_reply(conversation) for conversation in read_conversations(data)]


def measure(base: Model, tuned: Model, conversations: list[Conversation], settings: CompareSettings) -> str:
    """The table over all conversations that fit both models, and how many do not."""
    ways: list[tuple[PreTrainedModel, Way]] = [
        (base[0], PlainWay(base[1], prompt)) for prompt in PLAIN_PROMPTS.values()
    ]
    chat = ChatWay(tuned[1])
    ways.append((tuned[0], chat))
    step = max(1, len(conversations) // settings.conversations)
    chosen = conversations[::step][: settings.conversations]
    asked = [one for one in chosen if all(fits(model, way, one) for model, way in ways)]
    if not asked:
        raise InputError(f"data {settings.data}: none of {len(chosen)} conversations fits the models' positions")
    of_base = ask_plainly(*base, asked, settings.reply_tokens)
    of_tuned = interview(tuned[0], chat, asked, settings.reply_tokens)
    table = to_text(best_scores([one.scores for one in of_base.values()]), of_tuned.scores)
    return (
        f"{table}\n{len(chosen) - len(asked)} of {len(chosen)} chosen conversations left out as too long for the models"
    )


if __name__ == "__main__":
    run_entry(main, CompareSettings)

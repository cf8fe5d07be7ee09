"""A base and an assistant evaluated as a run does it, for tests."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.choose_format import choose_format
from finetune.conversations.formats import Conversation
from finetune.evaluation.scoring import Evaluation, base_prompt_formats, evaluate
from finetune.replies.prompts import ChatPromptFormat


def evaluate_base(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    *,
    calculator: bool = False,
) -> dict[str, Evaluation]:
    """A base asked in every prompt format that it may understand; a calculator would complete its arithmetic too."""
    prompt_formats = base_prompt_formats(tokenizer, calculator=calculator, generation_config=model.generation_config)
    return {
        name: evaluate(model, prompt_format, conversations, max_new_tokens)
        for name, prompt_format in prompt_formats.items()
    }


def ask_in_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    *,
    calculator: bool = False,
) -> Evaluation:
    """An assistant asked in its chat format."""
    chat = choose_format(tokenizer, calculator=calculator, generation_config=model.generation_config)
    return evaluate(model, ChatPromptFormat(chat), conversations, max_new_tokens)

"""What lets any tool chat with a finished model: its template, its padding, and the ids at which a reply ends."""

from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.choose_format import stops_of
from finetune.chat.graft_format import CHAT_TEMPLATE, END_TOKEN


def make_conversational(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, own_stops: Sequence[int] = ()
) -> None:
    """Lets any tool chat with the model and stop where it should: template, end-of-turn id, pad id, generation config.

    What stopped the base stays a stop: its end of text, and the others that its generation config names. The end of
    text becomes the padding where there was none: it is no end of turn, so a tool that leaves padding out of the loss
    does not leave out the ends that a model must learn.

    Args:
        model: The model; only its configs change.
        tokenizer: Its tokenizer.
        own_stops: Where the model was tuned in the chat template that its base came with, the ids at which a reply ends
            in it. Tokenizer and template stay as they are then, and the generation config stops there.

    """
    if own_stops:
        end_of_text = tokenizer.eos_token_id
        stop_at(model.generation_config, [*own_stops, *([] if end_of_text is None else [end_of_text])])
        return
    tokenizer.chat_template = CHAT_TEMPLATE
    end_of_turn, end_of_text = tokenizer.convert_tokens_to_ids(END_TOKEN), tokenizer.eos_token_id
    if tokenizer.pad_token_id in (None, end_of_turn):
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = END_TOKEN
    generation = model.generation_config
    stops = (end_of_turn, end_of_text, *stops_of(tokenizer, generation))
    stop_at(generation, [id_ for id_ in stops if id_ is not None])
    for config in (generation, model.config.get_text_config()):
        config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().eos_token_id = end_of_turn


def stop_at(generation: GenerationConfig, stops: Sequence[int]) -> None:
    """Has the config name these ids, each once."""
    generation.eos_token_id = list(dict.fromkeys(stops))
    generation._from_model_config = False  # else transformers 4 would take the one stop of the model's config instead

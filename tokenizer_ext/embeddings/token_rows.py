"""Whether every id of a tokenizer has a row in the tables of its model."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.plain_text import control_tokens_of


def check_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, new_ids: int = 0) -> None:
    """Refuses a model that has no row for an id that text can become, or for one that is followed by new ids.

    A control token may lack its row (Gemma 3 1B has none for its image token): no text becomes it.

    Raises:
        InputError: an id has no row; the message has both numbers.

    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = next_token_id(tokenizer)
    if ids <= rows:
        return
    control = set(control_tokens_of(tokenizer).values())
    without_row = {id_: token for token, id_ in tokenizer.get_vocab().items() if id_ >= rows}
    lost = {id_: token for id_, token in without_row.items() if new_ids or id_ not in control}
    if lost:
        first = min(lost)
        reason = "no new token can follow such an id" if new_ids else "text can become such an id"
        raise InputError(
            f"tokenizer: found ids up to {ids - 1}, but {rows} rows in the table of {type(model).__name__}, so "
            f"{len(lost)} from {first} ({lost[first]!r}) on lack one, expected a row for each: {reason}; give a "
            "model and a tokenizer that belong together"
        )

"""Whether a model says its new tokens, or spells them out in the parts that it knew before.

Two questions: where a held-out text has a new token next, is it the model's first choice? And of all new tokens in the
text that the model writes by itself, how many did it write as one token?

Shapes: B rows, T tokens of a row, P places before a new token, D width, V vocabulary.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.replies.generation import generate_ids
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.micro_batches import MicroBatch
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import tracked

CONTINUATION_TOKENS = 64
PLACES_PER_CHUNK = 256
DECODINGS = {"greedy": Sampling(temperature=0.0), "sampled": Sampling(temperature=1.0, top_p=0.95)}


@dataclass(frozen=True)
class Written:
    """New tokens in texts that a model wrote."""

    emitted: int
    """Written as one token."""
    spelled_out: int
    """Written in other tokens, where the tokenizer would have used the new one."""

    @property
    def adoption(self) -> float | None:
        """Share of new tokens written as one; None where the texts hold none."""
        total = self.emitted + self.spelled_out
        return self.emitted / total if total else None


@dataclass(frozen=True)
class Emission:
    """How a model uses its new tokens."""

    targets: int
    """Places of held-out text where a new token comes next."""
    first_choices: int
    """Those of them where it is the likeliest."""
    written: dict[str, Written]
    """By how the next token is chosen."""

    def describe(self) -> str:
        """Two lines for the terminal."""
        share = f"{self.first_choices / self.targets:.1%}" if self.targets else "–"
        decodings = "; ".join(
            f"{name} {'no new token' if one.adoption is None else f'{one.adoption:.1%}'} "
            f"({one.emitted:,} as one token, {one.spelled_out:,} spelled out)"
            for name, one in self.written.items()
        )
        return (
            f"a new token that comes next is the first choice: {share} of {self.targets:,}\n"
            f"new tokens in its own continuations: {decodings}"
        )


def measure_emission(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    new_ids: Collection[int],
    held_out: Iterable[MicroBatch],
    prompts: Sequence[Sequence[int]],
    end_id: int | None,
) -> Emission:
    """The figures of a model, whose new tokens are `new_ids`; control tokens are none of them."""
    first, targets = count_first_choices(model, new_ids, held_out)
    written = {
        name: count_written(
            [
                reply.ids
                for reply in generate_ids(
                    model,
                    prompts,
                    max_new_tokens=CONTINUATION_TOKENS,
                    stop_ids=() if end_id is None else (end_id,),
                    sampling=sampling,
                )
            ],
            tokenizer,
            new_ids,
        )
        for name, sampling in DECODINGS.items()
    }
    return Emission(targets, first, written)


@torch.inference_mode()
def count_first_choices(
    model: PreTrainedModel, new_ids: Collection[int], held_out: Iterable[MicroBatch]
) -> tuple[int, int]:
    """How many new tokens that come next are the likeliest id of all, and how many come next."""
    device = next(model.parameters()).device
    wanted = torch.tensor(sorted(new_ids), device=device)
    right = total = 0
    for micro_batch in tracked(held_out, "looking at first choices", "micro-batches"):
        input_ids, targets = (micro_batch[name].to(device) for name in ("input_ids", "targets"))  # (B, T) twice
        is_new = torch.isin(targets, wanted)  # (B, T)
        hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state[is_new]  # (P, D)
        for some, of_some in zip(hidden.split(PLACES_PER_CHUNK), targets[is_new].split(PLACES_PER_CHUNK), strict=True):
            choices: Tensor = model.get_output_embeddings()(some).argmax(dim=-1)  # (P)
            right += int((choices == of_some).sum())
        total += int(is_new.sum())
    return right, total


def count_written(
    texts: Iterable[Sequence[int]], tokenizer: PreTrainedTokenizerFast, new_ids: Collection[int]
) -> Written:
    """New tokens among generated ids, and those that are not there though the tokenizer finds them in the same text."""
    encoder = plain_text_encoder(tokenizer)
    emitted = spelled_out = 0
    for ids in texts:
        written = Counter(id_ for id_ in ids if id_ in new_ids)
        text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        wanted = Counter(id_ for id_ in encoder.encode(text, add_special_tokens=False).ids if id_ in new_ids)
        emitted += written.total()
        spelled_out += (wanted - written).total()
    return Written(emitted, spelled_out)

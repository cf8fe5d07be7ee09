"""A tiny base with adapters on it, and what each of them answers alone."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from finetune.export.opened_sides import open_local
from finetune.replies.generation import generate_ids
from finetune.serving.reply_request import Ended, Piece, ReplyRequest
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.tiny_models import save_tiny_base
from tokenizer_ext.huggingface.hf_model import load_model

GREEDY = Sampling(temperature=0)


def save_adapter(base: Path, folder: Path, seed: int, std: float = 0.3) -> Path:
    """A random adapter of rank 4 on all linear layers."""
    torch.manual_seed(seed)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(load_model(str(base)), lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    adapted.save_pretrained(folder)
    return folder


def save_models(folder: Path, adapters: int = 3) -> list[str]:
    """The base and adapters on it, by their folders."""
    base = save_tiny_base(folder / "base", initializer_range=0.2)
    return [str(base), *(str(save_adapter(base, folder / f"adapter {n}", n)) for n in range(1, 1 + adapters))]


def prompts(number: int, known_ids: int, longest: int = 40, seed: int = 0) -> list[list[int]]:
    """Prompts of unequal length."""
    draw = random.Random(seed)
    return [[draw.randrange(known_ids) for _ in range(draw.randint(1, longest))] for _ in range(number)]


def known_texts(name: str, asked: Sequence[Sequence[int]], new_ids: int, sampling: Sampling = GREEDY) -> list[str]:
    """What a model answers to each prompt alone, as text."""
    side = open_local(name)
    texts = []
    for prompt in asked:
        (reply,) = generate_ids(side.model, [prompt], max_new_tokens=new_ids, stop_ids=(), sampling=sampling)
        texts.append(side.tokenizer.decode(list(reply.ids), clean_up_tokenization_spaces=False))
    return texts


def request(prompt: Sequence[int], most_tokens: int, sampling: Sampling = GREEDY, **more) -> ReplyRequest:
    """A request for one prompt."""
    return ReplyRequest(prompt_ids=tuple(prompt), most_tokens=most_tokens, sampling=sampling, **more)


def whole(events: Iterable[Piece | Ended], choice: int = 0) -> str:
    """The text of one choice."""
    return "".join(event.text for event in events if isinstance(event, Piece) and event.choice == choice)

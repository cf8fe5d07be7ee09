"""How fast replies are generated beside transformers' `generate`: GPT-2's shape and SmolLM2, one row and eight.

    python -m tests.benchmarks.generation

Greedy, in single precision, 48 new ids after prompts of 32; both sides must give the same ids. Sides take turns,
medians of five rounds. Then a base and its adapter side by side, in one batch, beside one of them alone. Above it how
fast weights can be read by products of one row, in either layout, which is the floor. Two minutes on two quiet cores.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import peft
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from finetune.decoding.decoders import decodes_by_parts
from finetune.replies.generation import Asked, generate_ids, generate_together
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.pages.terminal import quiet_libraries

PROMPT_IDS, NEW_IDS, ROUNDS = 32, 48, 5
GREEDY = Sampling(temperature=0)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it returns."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def ours(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The ids of all replies."""
    replies = generate_ids(model, prompts, max_new_tokens=NEW_IDS, stop_ids=(), sampling=GREEDY)
    return [list(reply.ids) for reply in replies]


def theirs(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The ids of all replies, by transformers."""
    ids = torch.tensor(prompts)
    never = model.config.vocab_size  # no id ends a reply, on either side
    options = {"do_sample": False, "max_new_tokens": NEW_IDS, "eos_token_id": never, "pad_token_id": 0}
    replies: list[list[int]] = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[
        :, PROMPT_IDS:
    ].tolist()
    return replies


def compare(name: str, model: Any, rows: int) -> None:
    """Prints one line."""
    prompts = torch.randint(1, model.config.vocab_size, (rows, PROMPT_IDS)).tolist()
    expected, given = theirs(model, prompts), ours(model, prompts)  # both sides warm
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        times["theirs"].append(seconds_of(lambda: theirs(model, prompts))[0])
        times["ours"].append(seconds_of(lambda: ours(model, prompts))[0])
    rates = {side: rows * NEW_IDS / statistics.median(taken) for side, taken in times.items()}
    same = "equal ids" if given == expected else "OTHER IDS"
    by = "by parts" if decodes_by_parts(model) else "by its own forward"
    print(
        f"{name}, {rows} row(s): ours {rates['ours']:.1f} tokens/s {by}, transformers {rates['theirs']:.1f}: "
        f"{rates['ours'] / rates['theirs']:.2f} x, {same}",
        flush=True,
    )


def reading_rates(outputs: int, inputs: int, rows: int) -> None:
    """Prints how fast products read a weight, laid out in each way; as many weights as defeat a cache."""
    count = max(1, 200_000_000 // (4 * outputs * inputs))
    weights, few = [torch.randn(outputs, inputs) for _ in range(count)], torch.randn(rows, inputs)
    columns = [weight.t().contiguous() for weight in weights]
    gigabytes, rates = 4e-9 * outputs * inputs * count, {}
    for name, work in (
        ("linear", lambda: [F.linear(few, weight) for weight in weights]),
        ("by columns", lambda: [few @ column for column in columns]),
        ("on the left side", lambda: [(weight @ few.t()).t() for weight in weights]),
    ):
        work()
        rates[name] = gigabytes / statistics.median(seconds_of(work)[0] for _ in range(ROUNDS))
    shown = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    print(f"{outputs} x {inputs}, {rows} row(s), GB/s: {shown}", flush=True)


def side_by_side(name: str, model: Any) -> None:
    """Prints what it costs to ask a base and its adapter in one batch, beside one of them alone."""
    lora = peft.LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
    adapted: Any = peft.get_peft_model(model, lora).eval()
    prompt = torch.randint(1, model.config.vocab_size, (PROMPT_IDS,)).tolist()
    times: dict[str, list[float]] = {"both": [], "one": []}
    asked = [Asked(prompts=[prompt], stop_ids=(), of_base=of_base) for of_base in (False, True)]
    options: Any = {"max_new_tokens": NEW_IDS, "sampling": GREEDY}
    for _ in range(ROUNDS + 1):
        times["both"].append(seconds_of(lambda: generate_together(adapted, asked, **options))[0])
        times["one"].append(seconds_of(lambda: ours(adapted, [prompt]))[0])
    both, one = (statistics.median(taken[1:]) for taken in times.values())
    print(f"{name}: base and adapter in one batch {both:.2f} s, the adapter alone {one:.2f} s: {both / one:.2f} x")


def main() -> None:
    """Prints the floor, then every row."""
    quiet_libraries()
    torch.manual_seed(0)
    with torch.inference_mode():
        for shape in ((49152, 576), (50257, 768), (3072, 768), (768, 3072), (960, 576), (576, 1536), (576, 576)):
            for rows in (1, 8):
                reading_rates(*shape, rows)
    models = {
        "GPT-2 124M": lambda: GPT2LMHeadModel(GPT2Config(initializer_range=0.05)),
        "SmolLM2-135M": lambda: AutoModelForCausalLM.from_pretrained(plain_folder("smollm2")),
    }
    for name, make in models.items():
        model: Any = make().eval()
        for rows in (1, 8):
            compare(name, model, rows)
        side_by_side(name, model)


if __name__ == "__main__":
    main()

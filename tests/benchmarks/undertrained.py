"""How many planted under-trained rows the audit finds in its worst 2 %, and how long it takes at GPT-2's size.

    python tests/benchmarks/undertrained.py

Three kinds of plants, 50 tokens each: rows of the embedded base drawn anew as at its start; the same, pushed to where
its untrained rows lie; and, for models trained here from scratch, tied and untied, tokens that their text never holds
because the merges that lead to them were dropped. Each vocabulary also has tokens that never occur by themselves
(ASCII control characters, steps on the way to longer tokens): no audit can rank those behind the plants, so they are
counted (`others`; more than 2 % leave no room), and recall is also given with them left out of the ranking. Beside it
stands what the threshold flags: plants, and tokens that the text held 10 times or more, which models that are trained
for a minute have hardly learned either. About 4 minutes on one core.
"""

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.rungs.gpt import GPT, INITIAL_STANDARD_DEVIATION, GPTConfig
from tokenizer_ext.bpe.byte_characters import from_visible
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer, token_bytes
from tokenizer_ext.inspection.audit import audit_tokens, count_tokens
from tokenizer_ext.inspection.token_kinds import sort_tokens
from tokenizer_ext.inspection.undertrained import UnderTrained, find_undertrained, untrained_groups
from tokenizer_ext.pages.terminal import quiet_libraries

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PLANTED = 50
WANTED = 45
VOCABULARY, BLOCK, BLOCKS, STEPS, PEAK = 4096, 128, 12, 300, 3e-3


def main() -> None:
    """Prints the table."""
    quiet_libraries()
    texts = [document.text for document in embedded_corpus().base]
    columns = f"{'wanted':>6} {'found':>6} {'without others':>15} {'others':>7} {'flagged':>8} {'10 uses':>8}"
    print(f"{'50 planted rows':60} {columns}")
    for seed in range(3):
        for name, rows in (
            ("drawn as at the start", _start_rows),
            ("the same, where untrained rows lie", _drifted_rows),
        ):
            _show(f"embedded base, {name}, seed {seed}", _planted_base(texts, rows, seed))
    for seed, tied in itertools.product(range(2), (True, False)):
        _show(f"trained here, {'tied' if tied else 'untied'}, seed {seed}", _trained(texts[::6], tied, seed))
    _show_speed()


@dataclass(frozen=True)
class Result:
    """Where the audit ranks the plants."""

    planted: Collection[int]
    others: Collection[int]
    found: UnderTrained
    without_others: UnderTrained
    often_used: int


def _show(name: str, result: Result) -> None:
    recall, without_others = (
        len({id_ for id_, _ in one.worst} & set(result.planted)) for one in (result.found, result.without_others)
    )
    flagged = len(set(result.found.flagged) & set(result.planted))
    print(
        f"{name:60} {f'>= {WANTED}':>6} {recall:>6} {without_others:>15} {len(result.others):>7} {flagged:>8} "
        f"{result.often_used:>8}"
    )


def _judge(
    model: nn.Module,
    ordinary: Sequence[int],
    groups: Sequence[Sequence[int]],
    planted: Collection[int],
    uses: Mapping[int, int],
) -> Result:
    others = {id_ for id_ in ordinary if not uses[id_]} - set(planted)
    found = find_undertrained(model, ordinary, groups)
    often_used = sum(uses[id_] >= 10 for id_ in set(found.flagged) - set(planted))
    without_others = find_undertrained(model, [id_ for id_ in ordinary if id_ not in others], groups)
    return Result(planted, others, found, without_others, often_used)


# Rows planted in the embedded base


def _planted_base(texts: Sequence[str], new_rows: Callable[[Tensor, Sequence[int], int], Tensor], seed: int) -> Result:
    model, tokenizer = load_model(str(EMBEDDED_BASE)), load_tokenizer(str(EMBEDDED_BASE))
    uses = dict(enumerate(_uses_of_the_base(tuple(texts))))
    ordinary = [id_ for id_, found in sort_tokens(tokenizer).items() if found.kind == "ordinary"]
    groups = untrained_groups(token_bytes(tokenizer), 6144)
    planted = random.Random(seed).sample([id_ for id_ in ordinary if uses[id_] >= 100], PLANTED)
    table = find_tables(model).embedding.weight
    with torch.no_grad():
        table[planted] = new_rows(table, groups[0], seed)
    return _judge(model, ordinary, groups, planted, uses)


@cache
def _uses_of_the_base(texts: tuple[str, ...]) -> Sequence[int]:
    return count_tokens(load_tokenizer(str(EMBEDDED_BASE)), texts, 6144).uses


def _start_rows(table: Tensor, untrained: Sequence[int], seed: int) -> Tensor:
    noise = torch.randn(PLANTED, table.shape[1], generator=torch.Generator().manual_seed(seed))
    return noise * INITIAL_STANDARD_DEVIATION


def _drifted_rows(table: Tensor, untrained: Sequence[int], seed: int) -> Tensor:
    return _start_rows(table, untrained, seed) + table[list(untrained)].mean(dim=0)


# Models trained on a text that never holds the planted tokens


def _trained(texts: Sequence[str], tied: bool, seed: int) -> Result:
    vocabulary, banned, ids = _text_without_some_tokens(texts, seed)
    ids = ids[: STEPS * BLOCKS * BLOCK + 1]  # what one pass reads, so that uses are what was trained
    uses = Counter(ids.tolist())
    assert not any(uses[id_] for id_ in banned)
    bytes_of_id = {id_: from_visible(token) for token, id_ in vocabulary.items()}
    ordinary = [id_ for id_, token in bytes_of_id.items() if token.decode(errors="replace").encode() == token]
    model = _train(ids, tied, seed)
    return _judge(model, ordinary, untrained_groups(bytes_of_id, VOCABULARY), banned, uses)


def _text_without_some_tokens(texts: Sequence[str], seed: int) -> tuple[dict[str, int], list[int], Tensor]:
    """A vocabulary, 50 of its tokens of middling frequency, and the texts' ids without the merges that lead to them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    backend = json.loads(tokenizer.to_str())
    vocabulary, merges = backend["model"]["vocab"], backend["model"]["merges"]
    uses = Counter(id_ for encoding in tokenizer.encode_batch(texts) for id_ in encoding.ids)
    inner = {part for pair in merges for part in pair}
    leaves = sorted(
        (left + right for left, right in merges if left + right not in inner), key=lambda t: uses[vocabulary[t]]
    )
    banned = set(random.Random(seed).sample(leaves[len(leaves) // 4 : 3 * len(leaves) // 4], PLANTED))
    backend["model"]["merges"] = [pair for pair in merges if "".join(pair) not in banned]
    shuffled = random.Random(seed).sample(texts, len(texts))
    encodings = Tokenizer.from_str(json.dumps(backend)).encode_batch(shuffled)
    ids = torch.tensor([id_ for encoding in encodings for id_ in encoding.ids])
    return vocabulary, [vocabulary[token] for token in banned], ids


def _train(ids: Tensor, tied: bool, seed: int) -> GPT:
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocabulary_size=VOCABULARY, block_size=BLOCK, layers=2, heads=4, width=96, tied=tied))
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
    order = torch.randperm((len(ids) - 1) // BLOCK)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min((step + 1) / 30, 1.1 - step / STEPS)
        starts = order[step * BLOCKS : (step + 1) * BLOCKS] * BLOCK
        rows = torch.stack([ids[start : start + BLOCK + 1] for start in starts.tolist()])  # (B, T + 1)
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


# Speed


def _show_speed() -> None:
    ranks = SHARED_DATA / "gpt2.tiktoken"
    if not ranks.is_file():
        print("speed: left out, gpt2.tiktoken is not in the folder shared/data beside the repository")
        return
    tokenizer = to_hf_tokenizer(read_ranks(ranks), {"<|endoftext|>": 50256})
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        audit = audit_tokens(model, tokenizer)
        seconds.append(time.perf_counter() - started)
    print(f"audit of {audit.rows:,} x 768 rows: {median(seconds):.1f} s (wanted < 60 s)")


if __name__ == "__main__":
    main()

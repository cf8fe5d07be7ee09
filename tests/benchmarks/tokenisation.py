"""How fast conversations are read and become ids and masks: GSM8K with GPT-2's vocabulary, first and from the cache.

    python -m tests.benchmarks.tokenisation

A table of the number wanted beside the number seen. Both sides take turns, medians of three rounds. The peer is
transformers' `apply_chat_template` row by row, which gives ids and mask as TRL asks for them; its ids and mask must be
ours; above it what `tokenizers` takes for the texts alone, which is the floor. The warm start is a process of its own,
from the moment its imports are done: it reads the file, looks the ids up and makes the first step's micro-batches.
Reads `../shared/data`; about a minute on two cores.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from datasets import Dataset
from transformers import GPT2Config, PreTrainedTokenizerFast

from finetune.chat.dataset import SupervisedDataset, prepare_dataset
from finetune.chat.graft_format import CHAT_TEMPLATE, CONTROL_TOKENS, GraftFormat
from finetune.conversations.formats import Conversation
from finetune.conversations.splits import ConversationSplits, read_conversation_splits
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer
from tokenizer_ext.pages.terminal import quiet_libraries

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GSM8K = SHARED_DATA / "gsm8k_train.jsonl"
ROUNDS = 3
PEER_CONVERSATIONS = 1000


def main() -> None:
    """Prints the table."""
    quiet_libraries()
    with TemporaryDirectory() as folder:
        tokenizer = save_tokenizer(Path(folder) / "tokenizer")
        splits = read_conversation_splits(str(GSM8K))
        chat, everything = GraftFormat(tokenizer), [*splits.training, *splits.held_out]
        ours, of_processor, theirs = rates(chat, everything)
        parquet = Path(folder) / "gsm8k.parquet"
        Dataset.from_json(str(GSM8K)).to_parquet(parquet)
        read = {
            path.suffix: statistics.median(seconds(partial(read_and_render, path, chat))) for path in (GSM8K, parquet)
        }
        chunked = statistics.median(seconds(lambda: GraftFormat(tokenizer, calculator=True).render_set(everything)))
        dataset = prepare(tokenizer, splits, Path(folder) / "tokens")
        warm = [warm_start(folder) for _ in range(ROUNDS)]
        cores = len(os.sched_getaffinity(0))
        print(f"{len(everything):,} conversations of GSM8K, GPT-2's vocabulary, {cores} cores\n")
        print(f"{'':62}{'wanted':>12}{'seen':>12}")
        for suffix, taken in read.items():
            show(f"read, split, tokenised and masked a second, {suffix}", "10,000", f"{len(everything) / taken:,.0f}")
        show(f"conversations tokenised and masked a second, {cores} cores", "10,000", f"{ours:,.0f}")
        show("the same a second of processor time", "", f"{of_processor:,.0f}")
        show("with the calculator's results apart", "", f"{len(everything) / chunked:,.0f}")
        show(
            "the floor: tokenizers' encode_batch of the same texts",
            "",
            f"{len(everything) / floor(chat, everything):,.0f}",
        )
        show("transformers' template, row by row", "", f"{theirs:,.0f}")
        show("times as fast", "", f"{ours / theirs:.1f} x")
        show("seconds of a warm start", "1.0", f"{statistics.median(warm):.2f}")
        turns = f"{dataset.learned_ends:,}/{dataset.assistant_turns:,}"
        show("ends of turns that are learned, of all that fit", "100 %", turns)


def show(what: str, wanted: str, seen: str) -> None:
    """One row of the table."""
    print(f"{what:62}{wanted:>12}{seen:>12}")


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer with the control tokens, as a run would load it."""
    ranks = read_ranks(SHARED_DATA / "gpt2.tiktoken")
    tokenizer = add_control_tokens(to_hf_tokenizer(ranks, {"<|endoftext|>": 50256}), CONTROL_TOKENS)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    GPT2Config().save_pretrained(folder)
    return load_tokenizer(str(folder))


def rates(chat: GraftFormat, conversations: list[Conversation]) -> tuple[float, float, float]:
    """Conversations a second, ours by the clock and by all cores' time, and by the template; the same ids and masks."""
    chat.render(conversations[0])  # makes the encoder, once a run
    some = conversations[:PEER_CONVERSATIONS]
    ours, of_processor, theirs = [], [], []
    for _ in range(ROUNDS):
        start, start_of_processor = time.perf_counter(), time.process_time()
        rendered = chat.render_set(conversations)
        ours.append(len(conversations) / (time.perf_counter() - start))
        of_processor.append(len(conversations) / (time.process_time() - start_of_processor))
        start = time.perf_counter()
        by_template = [render_by_template(chat.tokenizer, one) for one in some]
        theirs.append(len(some) / (time.perf_counter() - start))
    found = [(one.input_ids, [int(flag) for flag in one.supervised]) for one in rendered[: len(some)]]
    assert found == by_template
    return statistics.median(ours), statistics.median(of_processor), statistics.median(theirs)


def render_by_template(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> tuple[list[int], list[int]]:
    """Ids and mask as other trainers get them."""
    messages = [{"role": one.role, "content": one.content} for one in conversation.messages]
    found = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    return found["input_ids"], found["assistant_masks"]


def read_and_render(path: Path, chat: GraftFormat) -> None:
    """A file into ids and masks, training and held-out conversations, nothing of it known from before."""
    with TemporaryDirectory() as nothing, patch.dict(os.environ, {"XDG_CACHE_HOME": nothing}):
        splits = read_conversation_splits(str(path))
        for part in (splits.training, splits.held_out):
            chat.render_set(part)


def floor(chat: GraftFormat, conversations: list[Conversation]) -> float:
    """Seconds that the library of tokenizers takes for all texts."""
    texts = [message.content for one in conversations for message in one.messages]
    encode = chat.tokenizer.backend_tokenizer.encode_batch_fast
    return statistics.median(seconds(lambda: [encode(texts[at : at + 512]) for at in range(0, len(texts), 512)]))


def seconds(work: Callable[[], object]) -> list[float]:
    """How long it takes, each of the rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def prepare(tokenizer: PreTrainedTokenizerFast, splits: ConversationSplits, cache: Path) -> SupervisedDataset:
    """The material of a run, through the cache, with its first micro-batches made."""
    dataset = prepare_dataset(
        GraftFormat(tokenizer),
        splits,
        maximum_tokens=512,
        held_out_conversations=100,
        conversations_per_step=32,
        tokens_per_micro_batch=4096,
        seed=0,
        cache=cache,
    )
    dataset.batches.micro_batches(0, 0, 1)
    return dataset


def warm_start(folder: str) -> float:
    """Seconds that a new process takes, without its imports and without loading the tokenizer."""
    command = [sys.executable, "-m", "tests.benchmarks.tokenisation", folder]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def start_warm(folder: Path) -> None:
    """What the new process does."""
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    made = len(list((folder / "tokens").iterdir()))
    start = time.perf_counter()
    prepare(tokenizer, read_conversation_splits(str(GSM8K)), folder / "tokens")
    taken = time.perf_counter() - start
    assert len(list((folder / "tokens").iterdir())) == made == 2, "nothing was rendered anew"
    print(taken)


if __name__ == "__main__":
    start_warm(Path(sys.argv[1])) if len(sys.argv) > 1 else main()

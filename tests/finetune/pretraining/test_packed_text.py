"""Blocks of packed text: the loss is that of each document alone, and every token is a target once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from finetune.engine.engine import start_engine
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.pretraining.dataset import PretrainDataset, prepare_dataset
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.text_sources import name_texts
from finetune.pretraining.token_files import encode_sources
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.extended_models import save_base
from tests.finetune.tiny_models import questions
from tests.real_tokenizers import REAL_FAMILIES, loaded_tokenizer
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

TEXTS = [f"{asked} {answer} {'It is so. ' * (n % 4)}" for n, (asked, answer) in enumerate(questions(60))]


def write_documents(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def read_dataset(names: list[str], tokenizer: Any, **settings: Any) -> PretrainDataset:
    named, ends = name_texts(names, [], None), DocumentEnds.of(tokenizer)
    texts = encode_sources(named.all, tokenizer, ends)
    sizes = {"block_size": 48, "blocks_per_batch": 4, "evaluation_blocks": 4, "seed": 0}
    return prepare_dataset(texts, named, ends, **{**sizes, **settings})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _loss_alone(model: Any, ids: list[int]) -> float:
    """The summed loss of one document by transformers' own forward, without anything of ours."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].float()
    return F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_loss_of_a_packed_block_is_that_of_each_document_alone(architecture, tmp_path):
    folder = save_base(architecture, tmp_path / "base")
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    texts = TEXTS[:7]
    path = write_documents(tmp_path / "texts.jsonl", [*texts, "Held out, and of no matter here at all."])
    end = tokenizer.eos_token_id
    alone = [[end, *tokenizer.encode(text), end] for text in texts]
    expected = sum(_loss_alone(model, ids) for ids in alone)
    size = sum(len(ids) - 1 for ids in alone)
    dataset = read_dataset([str(path)], tokenizer, block_size=size)
    engine = start_engine(model, LoopSettings(max_steps=1, learning_rate=1.0), make_accelerator("fp32"))
    assert engine.packs
    laid_out = dataset.laid_out(packed=True, tokens_per_micro_batch=size)
    (block,) = laid_out.batches.layout.join([dataset.batches.rows_at(0, 0, size)], size)
    assert block["input_ids"].shape == (1, size) and int((block["position_ids"] == 0).sum()) == len(texts)
    assert not (block["targets"] == IGNORED_TARGET).any()
    with torch.no_grad():
        found = SupervisedLoss(model.eval(), engine)(**block).item()
    assert found == pytest.approx(expected, rel=1e-5)
    padded = dataset.laid_out(packed=False, tokens_per_micro_batch=size)
    (rows,) = padded.batches.layout.join([dataset.batches.rows_at(0, 0, size)], size)
    with torch.no_grad():
        assert SupervisedLoss(model, engine)(**rows).item() == pytest.approx(expected, rel=1e-5)


FAMILIES = [
    pytest.param(family, marks=[pytest.mark.long] * (family in ("gemma3", "qwen3"))) for family in REAL_FAMILIES
]
ODD = "naïve <|endoftext|> 東京 <s> </s> <bos> <|begin_of_text|>"


@pytest.mark.parametrize("family", FAMILIES)
def test_of_real_tokenizers_documents_come_back_whole_and_each_token_is_a_target_once(family, tmp_path):
    tokenizer = loaded_tokenizer(family)
    ends = DocumentEnds.of(tokenizer)
    path = write_documents(tmp_path / "texts.jsonl", [ODD, *TEXTS])
    dataset = read_dataset([str(path)], tokenizer, block_size=32)
    text = dataset.texts[0]
    stream = text.training[0 : len(text.training)].tolist()
    starts = [place for place, id_ in enumerate(stream[:-1]) if id_ == ends.start_id]
    documents = [stream[start + 1 :][: stream[start + 1 :].index(ends.end_id)] for start in starts]
    kept = [tokenizer.decode(ids, clean_up_tokenization_spaces=False).removeprefix(" ") for ids in documents]
    assert len(kept) == text.facts.documents and set(kept) <= {ODD, *TEXTS} and ODD in kept
    held_out_bytes = int(text.held_out_bytes[0 : len(text.held_out)].sum())
    assert held_out_bytes + sum(len(one.encode()) for one in kept) == sum(len(one.encode()) for one in [ODD, *TEXTS])
    targets = Counter[int]()
    for start in range(0, len(stream) - 1, 32):
        for _, learned, *_ in ends.rows(text.training[start : start + 33].numpy()):
            targets.update(one for one in learned if one != IGNORED_TARGET)
    expected = Counter(stream[1:])
    if not ends.shared:
        del expected[ends.start_id]
    assert targets == expected


@pytest.mark.parametrize(
    ("family", "start", "end"),
    [
        ("llama3_1", "<|begin_of_text|>", "<|end_of_text|>"),
        ("llama2", "<s>", "</s>"),
        pytest.param("qwen3", "<|endoftext|>", "<|endoftext|>", marks=pytest.mark.long),
    ],
)
def test_documents_of_a_chat_model_begin_and_end_as_those_of_its_base_did(family, start, end):
    tokenizer = loaded_tokenizer(family)
    ends = DocumentEnds.of(tokenizer)
    assert tokenizer.convert_ids_to_tokens([ends.start_id, ends.end_id]) == [start, end]

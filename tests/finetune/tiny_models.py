"""Models and data so small that a test trains one in a second."""

import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, to_hf_tokenizer

VOCABULARY = 61
POSITIONS = 96
COLOURS = ["red", "green", "blue", "white"]
THINGS = ["apple", "house", "river", "stone", "cloud", "tiger", "table", "paper", "engine", "window"]


def tiny_gpt2(vocabulary: int = VOCABULARY, seed: int = 0, **settings) -> PreTrainedModel:
    """A random GPT-2: Conv1D, head tied to the embedding, bos = eos."""
    torch.manual_seed(seed)
    shape = {"n_positions": POSITIONS, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    end = {"bos_token_id": vocabulary - 1, "eos_token_id": vocabulary - 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **{**shape, **end, **settings})).eval()


def tiny_llama(vocabulary: int = VOCABULARY, seed: int = 0) -> PreTrainedModel:
    """A random Llama: Linear, head of its own."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


TINY_MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}


def questions(number: int) -> list[tuple[str, str]]:
    """Different questions with one-word answers that follow from them."""
    return [
        (f"What colour has the {THINGS[n % 10]} number {n}?", f"It is {COLOURS[n * 7 % 4]}.") for n in range(number)
    ]


def write_questions(path: Path, number: int = 100) -> Path:
    """A .jsonl file of conversations."""
    lines = [json.dumps({"question": asked, "answer": answer}) for asked, answer in questions(number)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def save_tiny_base(folder: Path, seed: int = 0, initializer_range: float = 0.02) -> Path:
    """A GPT-2 folder without dropout, with a BPE tokenizer of 320 tokens whose bos, eos and pad are one id."""
    bpe = train_bpe([f"{asked} {answer}\n" for asked, answer in questions(60)], 320, special_tokens=["<|endoftext|>"])
    tokenizer = to_hf_tokenizer(bpe.ranks, bpe.special_tokens)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    tiny_gpt2(next_token_id(tokenizer), seed, initializer_range=initializer_range, **no_dropout).save_pretrained(folder)
    return folder

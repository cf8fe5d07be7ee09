"""The recipe of GPT-2: its shape, its global batch in pieces, its tokenizer, and a small run of it on a CPU."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiktoken
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from configs import InputError, load_config
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.training_text import read_training_text
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, train
from scratch_models.make_model import make_model
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.sample import SampleSettings
from scratch_models.sample import main as sample
from scratch_models.scratch_folder import load_scratch_model
from scratch_models.train import TrainSettings, main
from tests.house.repository import ROOT
from tests.real_tokenizers import real_tokenizer
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

DATA = ROOT.parent / "shared" / "data"
CONFIG = str(ROOT / "configs" / "gpt2_124m_fineweb_edu.yaml")
SMALL = "--precision fp32 --compile false --layers 2 --width 32 --heads 2 --block_size 32 --blocks_per_batch 8 "
SHORT = "--blocks_per_micro_batch 3 --max_steps 6 --warmup_steps 2 --evaluation_steps 3 --checkpoint_steps 0 "


@pytest.fixture(scope="module")
def gpt2_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with GPT-2's own tokenizer."""
    if not (DATA / "gpt2.tiktoken").is_file():
        pytest.skip("gpt2.tiktoken is not in the folder shared/data beside the repository")
    folder = tmp_path_factory.mktemp("tokenizer") / "gpt2"
    to_hf_tokenizer(read_ranks(DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of FineWeb-Edu: Parquet files with a column `text` among others."""
    if not (DATA / "tinyshakespeare.txt").is_file():
        pytest.skip("tinyshakespeare.txt is not in the folder shared/data beside the repository")
    folder = tmp_path_factory.mktemp("web") / "sample" / "10BT"
    folder.mkdir(parents=True)
    speeches = (DATA / "tinyshakespeare.txt").read_text()[:50_000].split("\n\n")
    documents = ["\n\n".join(speeches[start : start + 20]) for start in range(0, len(speeches), 20)]
    half = len(documents) // 2
    for number, some in enumerate((documents[:half], documents[half:])):
        columns = {"text": some, "id": list(map(str, range(len(some)))), "score": [3.5] * len(some)}
        pq.write_table(pa.table(columns), folder / f"{number:03}_00000.parquet")
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_recipe_is_gpt2s_smallest_size_and_ten_billion_tokens():
    settings = load_config(TrainSettings, ["--config", CONFIG])
    with torch.device("meta"):
        model = make_model(settings, rows=50_257)
    assert isinstance(model, GPT)
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808
    assert settings.blocks_per_batch * settings.block_size == 2**19
    assert 9.99e9 < settings.max_steps * 2**19 <= 1e10
    assert settings.warmup_steps * 2**19 == pytest.approx(375e6, rel=1e-3)


def gradients_of_a_step(folder: Path, blocks_per_micro_batch: int | None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    loss_model = SummedLoss(GPT(GPTConfig(vocabulary_size=50, block_size=16, layers=2, heads=2, width=32)))
    ids = torch.randint(50, (2000,), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(loss_model.parameters(), lr=0.1)
    found: dict[str, torch.Tensor] = {}

    def look(*_: object) -> None:
        named = loss_model.named_parameters()
        found.update({name: weight.grad.clone() for name, weight in named if weight.grad is not None})

    optimizer.register_step_pre_hook(look)
    folder.mkdir()
    settings = LoopSettings(max_steps=1, learning_rate=0.1, gradient_clip=1e9, checkpoint_steps=0)
    batches = RandomBlocks(ids, 16, 16, 0, blocks_per_micro_batch)
    accelerator = make_accelerator("fp32")
    run = RunFolder(folder)
    train(loss_model, batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=lambda step: {})
    return found


@pytest.mark.parametrize("at_once", [1, 5, 8])
def test_micro_batches_add_up_to_the_gradient_of_the_global_batch(tmp_path: Path, at_once: int):
    whole = gradients_of_a_step(tmp_path / "whole", None)
    cut = gradients_of_a_step(tmp_path / "cut", at_once)
    apart = torch.cat([(cut[name] - gradient).flatten() for name, gradient in whole.items()])
    assert apart.norm() <= 1e-6 * torch.cat([gradient.flatten() for gradient in whole.values()]).norm()


@pytest.mark.long
def test_a_small_run_of_the_recipe_is_saved_opened_and_sampled(
    gpt2_tokenizer: Path, web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    places = f"--data {web} --tokens {gpt2_tokenizer}"
    main(
        load_config(
            TrainSettings,
            ["--config", CONFIG, *f"{SMALL} {SHORT} {places} --output_dir run --sample_characters 9".split()],
        )
    )
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in lines] == [8 * 32] * 6
    assert lines[-1]["held_out_loss_nats"] < lines[2]["held_out_loss_nats"] < 10.9  # log of 50,257 is 10.82
    model, vocabulary = load_scratch_model("run")
    assert isinstance(model, GPT) and model.token_embedding_table.num_embeddings == len(vocabulary) == 50_257
    theirs = GPT2LMHeadModel.from_pretrained("run/final")
    text = "First Citizen: <|endoftext|> is no end here."
    ranks = tiktoken.Encoding(
        "gpt2",
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        mergeable_ranks=read_ranks(DATA / "gpt2.tiktoken"),
        special_tokens={"<|endoftext|>": 50256},
    )
    ids = AutoTokenizer.from_pretrained("run/final")(text, split_special_tokens=True)["input_ids"]
    assert ids == ranks.encode_ordinary(text)
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, atol=1e-4, rtol=0)
    capsys.readouterr()
    sample(SampleSettings(checkpoint="run", prompt="MENENIUS:", max_new_tokens=5))
    assert capsys.readouterr().out.startswith("MENENIUS:")


@pytest.mark.long
def test_a_named_tokenizer_gives_the_ids_of_its_documents_with_its_end_of_text_between(gpt2_tokenizer: Path, web: Path):
    tokenizer = AutoTokenizer.from_pretrained(gpt2_tokenizer)
    documents = [text for file in sorted(web.iterdir()) for text in pq.read_table(file)["text"].to_pylist()]
    for _ in range(2):  # made, and from the cache
        text = read_training_text(str(web), str(gpt2_tokenizer), 0)
        assert text.vocabulary.encode("a b") == tokenizer.encode("a b")
        ids = [text.training_ids[: len(text.training_ids)].tolist(), text.held_out_ids.tolist()]
        learned, held_out = (
            tokenizer.decode(part).removesuffix("<|endoftext|>").split("<|endoftext|>") for part in ids
        )
        assert sorted(learned + held_out) == sorted(documents)
        assert ids[1][: len(tokenizer.encode(held_out[0]))] == tokenizer.encode(held_out[0])
        first = len(tokenizer.decode(ids[1][:1]).encode())
        assert text.held_out_bytes == sum(len(document.encode()) for document in held_out) - first


@pytest.mark.long
def test_another_tokenizer_is_another_entry_of_the_cache(gpt2_tokenizer: Path, web: Path, tmp_path: Path):
    other = AutoTokenizer.from_pretrained(gpt2_tokenizer)
    other.add_special_tokens({"eos_token": "<|end|>"})
    other.save_pretrained("other")
    sizes = {name: read_training_text(str(web), name, 0) for name in (str(gpt2_tokenizer), "other")}
    assert [len(text.vocabulary) for text in sizes.values()] == [50_257, 50_258]
    assert int(sizes["other"].held_out_ids[-1]) == 50_257
    assert len(list((tmp_path / "cache" / "graft" / "ids").iterdir())) == 2


def test_a_tokenizer_that_cannot_serve_is_refused_in_one_line(gpt2_tokenizer: Path, web: Path):
    endless = AutoTokenizer.from_pretrained(gpt2_tokenizer)
    endless.eos_token = None
    endless.save_pretrained("./endless")
    with pytest.raises(InputError, match=r"tokens: ./endless has no end of text \(eos_token\), expected one"):
        read_training_text(str(web), "./endless", 0)
    real_tokenizer("llama2", Path("llama2"))
    with pytest.raises(
        InputError, match=r"tokens: ./llama2 is SentencePiece BPE.*, expected byte-level BPE"
    ) as refused:
        read_training_text(str(web), "./llama2", 0)
    assert "\n" not in str(refused.value)

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

import tokenizer_ext
from configs import InputError, run_entry
from scratch_models.rungs.bigram import BigramLanguageModel
from tests.house.repository import ROOT
from tests.said_lines import without_progress
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.tiktoken_files import to_tiktoken
from tokenizer_ext.extend import ExtendSettings, main
from tokenizer_ext.extension.certificate import Certificate, read_certificate
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.extension.plan import make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.hf_tokenizer import ranks_of

CONTROL = ["<|user|>", "<|assistant|>", "<|end|>"]
LEARNED = 300


def gpt2(rows: int, width: int = 8) -> Any:
    """A GPT-2 of this many rows, with random weights."""
    torch.manual_seed(0)
    fields = {"n_positions": 64, "n_embd": width, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, bos_token_id=None, eos_token_id=None, **fields)).eval()


@pytest.fixture(scope="module")
def problems(gpt2_file) -> list[str]:
    """1,000 problems of GSM8K with their answers."""
    path = gpt2_file.with_name("gsm8k_train.jsonl")
    if not path.is_file():
        pytest.skip("gsm8k_train.jsonl is not in the folder shared/data beside the repository")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:1000]]
    return [f"{row['question']}\n{row['answer']}" for row in rows]


@pytest.fixture(scope="module")
def extended(gpt2_tokenizer, problems) -> Extended:
    """GPT-2's real ranks in a padded table, with tokens learned from GSM8K and control tokens."""
    return extend_vocabulary(
        (gpt2(50_304), gpt2_tokenizer), corpus=problems, new_tokens=LEARNED, control_tokens=CONTROL
    )


def text_bytes_per_token(bpe: BytePairEncoding, documents: list[str]) -> float:
    """By tiktoken."""
    encoding = to_tiktoken(bpe, "any")
    return sum(len(text.encode()) for text in documents) / sum(len(encoding.encode_ordinary(t)) for t in documents)


# on GPT-2's real vocabulary


def test_nothing_old_moves_no_document_grows_and_every_token_is_reached(extended: Extended):
    certificate = extended.certificate
    assert certificate.holds
    assert (certificate.moved_ids, certificate.unreachable_tokens, certificate.longer_documents) == (0, 0, 0)
    assert (certificate.base_tokens, certificate.new_tokens, certificate.control_tokens) == (50_257, LEARNED, 3)


def test_bytes_per_token_are_tiktokens_on_every_tenth_document(extended: Extended, gpt2_bpe, problems):
    held_out = [text for number, text in enumerate(problems, 1) if number % 10 == 0]
    certificate = extended.certificate
    assert certificate.held_out_documents == len(held_out) == 100
    after = BytePairEncoding(ranks_of(extended.tokenizer))
    assert certificate.bytes_per_token_before == pytest.approx(text_bytes_per_token(gpt2_bpe, held_out))
    assert certificate.bytes_per_token_after == pytest.approx(text_bytes_per_token(after, held_out))
    assert certificate.bytes_per_token_after > certificate.bytes_per_token_before


def test_learned_tokens_follow_the_base_and_control_tokens_follow_those(extended: Extended):
    first = extended.first_new_id
    assert first == 50_257
    assert [merge.token for merge in extended.merges] == list(range(first, first + LEARNED))
    assert extended.tokenizer.convert_tokens_to_ids(CONTROL) == [first + LEARNED + place for place in range(3)]
    assert set(CONTROL) <= set(extended.tokenizer.all_special_tokens)


def test_the_encoding_for_tiktoken_gives_the_ids_of_the_extended_tokenizer(extended: Extended, problems):
    encoding = extended.to_tiktoken("gsm8k")
    texts = [f"{CONTROL[0]}{text}{CONTROL[2]}" for text in problems[::10]]
    assert encoding.name == "gsm8k" and encoding.n_vocab == len(extended.tokenizer)
    assert [encoding.encode(text, allowed_special="all") for text in texts] == extended.tokenizer(texts)["input_ids"]


def test_new_rows_go_into_padding_and_start_as_the_mean_of_the_old_ids_of_their_text(extended: Extended, gpt2_bpe):
    table = extended.model.transformer.wte.weight.detach()
    assert len(table) == extended.model.config.vocab_size == 50_560  # 50,257 + 300 + 3: more than the padding holds
    assert torch.equal(table[:50_257], gpt2(50_304).transformer.wte.weight[:50_257])
    for merge in extended.merges:
        old_ids = gpt2_bpe.encode_ordinary(merge.token_bytes.decode())
        assert len(old_ids) > 1
        torch.testing.assert_close(table[merge.token], table[old_ids].mean(dim=0))
    mean_of_all = table[:50_257].mean(dim=0)
    torch.testing.assert_close(table[50_257 + LEARNED :], mean_of_all.expand(3, 8))


def test_ids_and_logits_are_equal_after_save_and_reload(extended: Extended, gpt2_tokenizer, problems, tmp_path):
    texts = [*problems[:300], f"{CONTROL[0]}How many?{CONTROL[2]}<|endoftext|>", " 東京 Größe\n\n\t 🙂"]
    extended.save(tmp_path / "extended")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "extended")
    ids = extended.tokenizer(texts)["input_ids"]
    assert tokenizer(texts)["input_ids"] == ids
    with_new_tokens = next(one for one in ids if len(one) >= 64 and max(one[:64]) >= 50_257)
    assert [tokenizer.decode(one) for one in ids] == texts
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "extended").eval()
    row = torch.tensor([with_new_tokens[:64]])
    assert torch.equal(model(row).logits, extended.model(row).logits)
    saved = json.loads((tmp_path / "extended" / "certificate.json").read_text())
    assert saved == dataclasses.asdict(dataclasses.replace(extended.certificate, reopened=True))


def test_tokens_with_digits_are_learned_only_on_request(small_tokenizer, prose):
    texts = sort_texts([prose, *(f"2048 of 4096 in {year}" for year in range(2000, 2050))], [], [])

    def digits(allowed: bool) -> int:
        plan = make_plan(small_tokenizer, texts, Wanted(new_tokens=40, digits=allowed))
        return sum(any(48 <= byte < 58 for byte in merge.token_bytes) for merge in plan.merges)

    assert digits(allowed=False) == 0
    assert digits(allowed=True) > 0


# what is learned from


@pytest.fixture
def base(small_tokenizer) -> tuple[Any, Any]:
    """A model of 400 tokens."""
    return gpt2(400), small_tokenizer


def test_no_token_is_learned_from_the_documents_held_out(base):
    documents = [f"the zebra and the giraffe {number}" for number in range(9)] + ["an aardvark"]
    extended = extend_vocabulary(base, corpus=documents, new_tokens=6)
    assert extended.certificate.held_out_documents == 1
    assert all(merge.token_bytes in b"the zebra and the giraffe" for merge in extended.merges)
    with pytest.raises(InputError, match="the corpus supports"):
        extend_vocabulary(base, corpus=[*"abcdefghi", "aardvark aardvark aardvark"], new_tokens=1)


def test_a_short_corpus_is_learned_from_and_measured_on_whole(base, small_bpe):
    documents = ["zebra zebra zebra", "", "  \n", "giraffe giraffe giraffe"]
    extended = extend_vocabulary(base, corpus=iter(documents), new_tokens=8)
    learned = b" ".join(merge.token_bytes for merge in extended.merges)
    assert b"bra" in learned
    assert b"raf" in learned or b"ffe" in learned
    assert extended.certificate.held_out_documents == 0
    expected = text_bytes_per_token(small_bpe, [documents[0], documents[3]])
    assert extended.certificate.bytes_per_token_before == pytest.approx(expected)


def test_control_tokens_need_no_corpus(base):
    extended = extend_vocabulary(base, corpus=[], new_tokens=0, control_tokens=CONTROL)
    assert extended.tokenizer.convert_tokens_to_ids(CONTROL) == [400, 401, 402]
    assert extended.certificate.holds
    assert extended.certificate.bytes_per_token_before == 0
    assert len(extended.model.transformer.wte.weight) == 403


def test_a_model_in_memory_that_holds_nan_is_refused_and_unchanged(small_tokenizer):
    model = gpt2(300)
    model.transformer.h[0].mlp.c_fc.weight.data[1, 2] = float("nan")
    with pytest.raises(InputError, match=r"GPT2LMHeadModel: transformer.h.0.mlp.c_fc.weight holds NaN or infinity"):
        extend_vocabulary((model, small_tokenizer), control_tokens=CONTROL)
    assert len(model.transformer.wte.weight) == 300


def test_a_base_in_a_folder_is_extended_as_one_in_memory_and_keeps_its_stored_type(base, prose, tmp_path):
    model, tokenizer = base
    model.bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    corpus = prose.split("\n\n")
    from_folder = extend_vocabulary(tmp_path, corpus=corpus, new_tokens=20)
    in_memory = extend_vocabulary(base, corpus=corpus, new_tokens=20)
    assert from_folder.certificate == in_memory.certificate
    assert from_folder.model.dtype == torch.bfloat16
    assert all(
        torch.equal(weight, in_memory.model.state_dict()[name])
        for name, weight in from_folder.model.state_dict().items()
    )


# what a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"new_tokens": 5000}, r"asked for 5000, the corpus supports \d+, whose pairs occur 2 times or more in it"),
        ({"new_tokens": -1}, "new_tokens: found -1"),
        ({"minimum_count": 0}, "minimum_count: found 0"),
        ({"corpus": []}, "the corpus supports 0"),
        ({"corpus": "corpus.txt"}, r"found one string \('corpus.txt'\), expected a list of documents"),
        ({"control_tokens": ["<|endoftext|>"]}, "which is id 399 already"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_the_model_as_it_was(base, prose, arguments, found: str):
    before = {name: weight.clone() for name, weight in base[0].state_dict().items()}
    with pytest.raises(InputError, match=found):
        extend_vocabulary(base, **{"corpus": prose.split("\n\n"), "new_tokens": 5, **arguments})
    assert all(torch.equal(weight, before[name]) for name, weight in base[0].state_dict().items())


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(small_tokenizer):
    with pytest.raises(InputError, match="the embedding has 300 rows and the tokenizer ids up to 399"):
        extend_vocabulary((gpt2(300), small_tokenizer), corpus=[], new_tokens=0, control_tokens=CONTROL)


def test_an_extended_model_is_saved_into_a_new_folder_only(base, tmp_path):
    extended = extend_vocabulary(base, corpus=[], new_tokens=0, control_tokens=CONTROL)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        extended.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_scratch_model_is_not_saved_as_one_of_transformers(small_tokenizer, tmp_path):
    base = BigramLanguageModel(400), small_tokenizer
    extended = extend_vocabulary(base, corpus=[], new_tokens=0, control_tokens=CONTROL)
    with pytest.raises(InputError, match="BigramLanguageModel: is no Hugging Face model"):
        extended.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def folders(small_tokenizer, prose, tmp_path_factory) -> Path:
    """A folder with a base, texts, and what is wrong in one way or another."""
    folder = tmp_path_factory.mktemp("folders")
    gpt2(400).save_pretrained(folder / "base")
    small_tokenizer.save_pretrained(folder / "base")
    texts = {
        "corpus.txt": prose,
        "empty.txt": " \n\n\n",
        "words.txt": "wyvern\nclass\n",
        "protect.txt": prose[:2000],
        "held_out.txt": "the wyvern of this class\n\nanother text",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "latin1.txt").write_bytes(b"caf\xe9 au lait")
    (folder / "no_model").mkdir()
    (folder / "used").mkdir()
    (folder / "used" / "mine.txt").write_text("mine")
    damage_base(folder)
    save_other_families(folder)
    return folder


@pytest.fixture
def place(folders: Path, tmp_path: Path) -> Path:
    """The same, to write in."""
    return Path(shutil.copytree(folders, tmp_path / "place"))


def arguments(place: Path, **changed: str) -> list[str]:
    fields = {"base": "base", "corpus": "corpus.txt", "output_dir": "new"} | changed
    paths = ("base", "corpus", "output_dir", "words", "protect", "held_out")
    return [
        text for name, value in fields.items() for text in (f"--{name}", str(place / value) if name in paths else value)
    ]


def files_in(place: Path) -> set[Path]:
    return set(place.rglob("*"))


def damage_base(place: Path) -> None:
    model = gpt2(400)
    model.transformer.wte.weight.data[7, 3] = float("nan")
    model.save_pretrained(place / "nan")
    shutil.copy(place / "base" / "tokenizer.json", place / "nan")
    shutil.copy(place / "base" / "tokenizer_config.json", place / "nan")


def save_other_families(place: Path) -> None:
    """Bases with the tokenizers that are not handled."""
    unigram = models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)
    piece = models.BPE({"<unk>": 0, "▁": 1, "a": 2}, [], unk_token="<unk>", byte_fallback=True)
    for name, model in [
        ("wordpiece", models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")),
        ("unigram", unigram),
        ("sentencepiece", piece),
    ]:
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model)).save_pretrained(place / name)
        gpt2(8).save_pretrained(place / name)


def write_words(place: Path, text: str) -> str:
    (place / "wrong.txt").write_bytes(text.encode(errors="surrogateescape"))
    return "wrong.txt"


WRONG = [
    ({"new_tokens": "5000"}, "new_tokens: asked for 5000, the corpus supports "),
    ({"new_tokens": "-1", "corpus": "nowhere.txt"}, "new_tokens: found -1, expected 0 or more"),  # nothing is read yet
    ({"maximum_bytes": "1", "corpus": "nowhere.txt"}, "maximum_bytes: found 1, expected 2 or more"),
    ({"rows_multiple": "0", "corpus": "nowhere.txt"}, "rows_multiple: found 0, expected 1 or more"),
    ({"corpus": "empty.txt"}, "empty.txt: is empty, expected text"),
    ({"corpus": "latin1.txt"}, "latin1.txt: byte 3 is not UTF-8"),
    ({"corpus": "nowhere.txt"}, "nowhere.txt: no such file"),
    ({"corpus": "base"}, "base: is a folder, expected a text file"),
    ({"protect": "latin1.txt"}, "protect "),
    ({"held_out": "empty.txt"}, "held_out "),
    ({"words": "nowhere.txt"}, "words "),
    ({"base": "nowhere"}, "nowhere: no such folder"),
    ({"base": "no_model"}, "no_model: holds no config.json"),
    ({"base": "corpus.txt"}, "corpus.txt: is a file"),
    ({"base": "nan", "new_tokens": "5"}, "nan: transformer.wte.weight holds NaN or infinity, expected finite weights"),
    ({"base": "wordpiece"}, "found WordPiece (as in BERT), expected byte-level BPE (as in GPT-2, Llama 3, Qwen, OLMo"),
    ({"base": "unigram"}, "found SentencePiece Unigram (as in T5, XLNet), expected byte-level BPE"),
    ({"base": "unigram"}, "new tokens there would need scores, learned with those of all others"),
    ({"base": "sentencepiece"}, "found SentencePiece BPE (as in Llama 2, Gemma) that lacks 256 of the 256 bytes"),
    ({"output_dir": "used", "base": "nowhere"}, "used: is not an empty folder"),
    ({"output_dir": "corpus.txt"}, "corpus.txt: is not an empty folder"),
    ({"start": "median"}, "expected one of zero, normal, mean, subtoken_mean"),
    ({"new_token": "5"}, "did you mean new_tokens?"),
    ({"control_tokens": '["<|endoftext|>"]', "new_tokens": "5"}, "'<|endoftext|>', which is id 399 already"),
    ({"control_tokens": '["<|a|>", "<|a|>"]', "new_tokens": "5"}, "'<|a|>', which is id 405 already"),
]
WRONG_WORDS = [
    (" class\n", "' class' is a token already"),
    ("wyvern\nwyvern\n", "'wyvern' stands 2 times"),
    ("wyvern\n\n", "wrong.txt:2: is empty"),
    ("", "wrong.txt: is empty"),
    ("<|endoftext|>\n", "'<|endoftext|>' is the added token '<|endoftext|>'"),
    ("a<|endoftext|>b\n", "'a<|endoftext|>b' contains the added token '<|endoftext|>'"),
    ("<|mine|>\n", "'<|mine|>' holds the control token '<|mine|>'"),
    ("two words\n", "'two words' is cut into 'two', ' words'"),
    ("caf\udce9\n", "byte 3 is not UTF-8"),
]


@pytest.mark.parametrize(("changed", "found"), WRONG, ids=[found for _, found in WRONG])
def test_bad_input_gives_one_line_and_status_2_and_writes_nothing(place, changed, found: str, monkeypatch, capfd):
    assert found in refusal(place, monkeypatch, capfd, **changed)


@pytest.mark.parametrize(("text", "found"), WRONG_WORDS, ids=[found for _, found in WRONG_WORDS])
def test_words_that_cannot_be_tokens_are_refused_by_name(place, text: str, found: str, monkeypatch, capfd):
    name = write_words(place, text)
    changed = {"words": name, "word_forms": "as_written", "control_tokens": '["<|mine|>"]', "new_tokens": "5"}
    assert found in refusal(place, monkeypatch, capfd, **changed)


def refusal(place: Path, monkeypatch, capfd, **changed: str) -> str:
    """The one line with which the entry refuses; it writes nothing."""
    before = files_in(place)
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", ["extend.py", *arguments(place, **changed)])
    with pytest.raises(SystemExit) as ended:
        run_entry(main, ExtendSettings)
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert without_progress(printed.err).count("\n") == 1
    assert files_in(place) == before
    return printed.err


@pytest.mark.long
def test_the_command_gives_one_line_and_status_2_and_writes_nothing(place):
    before = files_in(place)
    command = [sys.executable, "-m", "tokenizer_ext.extend", *arguments(place, base="nan", new_tokens="5")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert "nan: transformer.wte.weight holds NaN" in ended.stderr
    assert without_progress(ended.stderr).count("\n") == 1
    assert files_in(place) == before


def test_the_entry_shows_the_certificate_and_leaves_a_folder_that_transformers_opens(place, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["extend.py", *arguments(place, new_tokens="20")])
    run_entry(main, ExtendSettings)
    printed = capfd.readouterr()
    assert printed.out.startswith("Counting the pieces of 107 documents …\n")
    assert "400 tokens + 20 learned + 0 control tokens\n" in printed.out
    assert "certificate holds\n" in printed.out
    assert without_progress(printed.err) == ""
    model = AutoModelForCausalLM.from_pretrained(place / "new")
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(place / "new")) == 420


EVERYTHING = {
    "new_tokens": "20",
    "words": "words.txt",
    "protect": "protect.txt",
    "held_out": "held_out.txt",
    "control_tokens": '["<|a|>", "<|b|>"]',
    "maximum_bytes": "6",
    "rows_multiple": "64",
    "start": "asymmetric",
}


def test_the_entry_takes_words_protected_text_held_out_text_and_control_tokens(place, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["extend.py", *arguments(place, **EVERYTHING)])
    run_entry(main, ExtendSettings)
    printed = capfd.readouterr().out
    assert "Left out, because they are tokens already: " in printed  # "class" or " class"
    tokenizer = AutoTokenizer.from_pretrained(place / "new")
    certificate = read_certificate(place / "new")
    assert certificate is not None and certificate.holds
    assert (certificate.control_tokens, certificate.held_out_documents) == (2, 2)
    assert certificate.new_tokens == certificate.word_tokens + 20 and certificate.word_tokens >= 3
    assert certificate.protected_documents > 0 and certificate.changed_protected_documents == 0
    assert certificate.rows is not None and certificate.rows.after == 448
    assert [len(tokenizer.tokenize(word)) for word in ("wyvern", " wyvern", "class", " class", "<|b|>")] == [1] * 5
    page = (place / "new" / "report.html").read_text()
    assert "wyvern" in page and "Certificate" in page and "data:image/svg+xml" in page


def test_a_dry_run_shows_the_curve_loads_no_weights_and_writes_nothing(place, monkeypatch, capfd):
    (place / "base" / "model.safetensors").unlink()
    before = files_in(place)
    monkeypatch.setattr(sys, "argv", ["extend.py", *arguments(place, **EVERYTHING), "--dry_run"])
    run_entry(main, ExtendSettings)
    printed = capfd.readouterr().out
    assert re.search(r"would add to 400 tokens: \d+ for words, 20 learned, 2 control tokens", printed)
    rows = re.findall(r"^ +(\d+)(?: \(knee\))? +\d+\.\d{3} +\+\d+\.\d% +\d+$", printed, re.MULTILINE)
    assert int(rows[0]) == 0 and int(rows[-1]) >= 23 and printed.count("(knee)") == 1
    assert files_in(place) == before


def test_words_and_control_tokens_need_no_corpus(place, monkeypatch, capfd):
    fields = ["--base", str(place / "base"), "--output_dir", str(place / "new"), "--words", str(place / "words.txt")]
    monkeypatch.setattr(sys, "argv", ["extend.py", *fields])
    run_entry(main, ExtendSettings)
    assert "0 learned" in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", ["extend.py", *fields[:4]])
    with pytest.raises(SystemExit):
        run_entry(main, ExtendSettings)
    assert "corpus: missing, expected a text file" in capfd.readouterr().err


# the Python surface


def test_the_package_hands_out_what_extends_a_vocabulary():
    assert tokenizer_ext.extend_vocabulary is extend_vocabulary
    assert (tokenizer_ext.Extended, tokenizer_ext.Certificate) == (Extended, Certificate)
    assert (tokenizer_ext.save_delta, tokenizer_ext.apply_delta) == (save_delta, apply_delta)
    with pytest.raises(AttributeError, match="no attribute 'shrink_vocabulary'"):
        _ = tokenizer_ext.shrink_vocabulary


def test_importing_the_package_loads_no_heavy_library():
    program = "import sys, tokenizer_ext.bpe.merge_learning\n"
    program += "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout == "[]\n"

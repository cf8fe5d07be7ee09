import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from configs import InputError
from scratch_models.rungs.bigram import BigramLanguageModel
from tests.tokenizer_ext.families import family_tokenizer, write_family
from tests.tokenizer_ext.tiny_models import TINY_MODELS, tiny_phi
from tokenizer_ext.bpe.merge_learning import Merge
from tokenizer_ext.huggingface.byte_level_backend import backend_json
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes
from tokenizer_ext.trim import TrimSettings, main
from tokenizer_ext.trimming.trim_certificate import describe_trim
from tokenizer_ext.trimming.trimmed_model import Trimmed, trim_vocabulary
from tokenizer_ext.trimming.trimmed_tokenizer import choose_removed

WORLD = "Größe 東京都は日本の首都である。 Привет, мир! 🙂 "
TABLES = ("wte.weight", "embed_tokens.weight", "embed_in.weight", "lm_head.weight", "embed_out.weight", "lm_head.bias")


@pytest.fixture(scope="module")
def corpus(prose) -> list[str]:
    """A third of what the tokenizers learned from, with an added token in its midst."""
    return [*prose[:12_000].split("\n\n"), "one<|endoftext|>two", "three<|im_end|>"]


@pytest.fixture(scope="module", params=TINY_MODELS)
def trimmed_folders(request, prose, corpus, tmp_path_factory) -> tuple[Path, Path, Trimmed]:
    """The folders of a tiny model of each family and of the same model trimmed."""
    folder = tmp_path_factory.mktemp("trim")
    write_family(request.param, folder / "before", [prose, WORLD * 30])
    tokenizer = AutoTokenizer.from_pretrained(folder / "before")
    model = TINY_MODELS[request.param](next_token_id(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = [tokenizer.eos_token_id, 300]
    model.generation_config.pad_token_id = next_token_id(tokenizer) - 1
    model.save_pretrained(folder / "before")
    tokenizer.save_pretrained(folder / "before")
    trimmed = trim_vocabulary(
        model, tokenizer, corpus, keep_tokens=[" operator"] if _has(tokenizer, " operator") else []
    )
    trimmed.save(folder / "after")
    return folder / "before", folder / "after", trimmed


def _has(tokenizer, text: str) -> bool:
    return text.encode() in token_bytes(tokenizer).values()


def hashes(folder: Path, ids: list[int]) -> dict[str, str]:
    """The hashes as `certificate.py` says, from the file alone, of the rows of these ids."""
    digests = {"base_rows": hashlib.sha256(), "other_weights": hashlib.sha256()}
    weights = load_file(folder / "model.safetensors")
    if "embed_out.weight" in weights:  # what transformers names lm_head in GPT-NeoX once it is loaded
        weights["lm_head.weight"] = weights.pop("embed_out.weight")
    for name, weight in sorted(weights.items()):
        is_table = name.endswith(TABLES)
        held = weight[ids] if is_table else weight
        digest = digests["base_rows" if is_table else "other_weights"]
        digest.update(" ".join([name, *map(str, held.shape)]).encode() + b"\n" + held.tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def test_the_certificate_of_every_family_holds(trimmed_folders):
    _, _, trimmed = trimmed_folders
    certificate = trimmed.certificate
    assert certificate.holds
    assert "certificate holds" in describe_trim(certificate)
    assert certificate.tokens_after < certificate.tokens_before
    assert (certificate.unreachable_tokens, certificate.moved_control_tokens) == (0, 0)
    assert (certificate.unequal_documents, certificate.longer_documents) == (0, 0)
    assert certificate.documents_with_removed_tokens == 0


def test_anyone_gets_the_hashes_from_the_two_folders_alone(trimmed_folders):
    before, after, _ = trimmed_folders
    record = json.loads((after / "trim.json").read_text())
    kept = sorted(map(int, record["new_ids"]))
    assert [record["new_ids"][str(id_)] for id_ in kept] == list(range(len(kept)))
    assert record["certificate"]["weights_before"] == hashes(before, kept)
    assert record["certificate"]["weights_after"] == hashes(after, list(range(len(kept))))
    assert hashes(before, kept) == hashes(after, list(range(len(kept))))


def test_one_flipped_bit_of_a_kept_row_is_another_hash(trimmed_folders):
    _, after, trimmed = trimmed_folders
    ids = list(range(trimmed.certificate.rows_after))
    weights = load_file(after / "model.safetensors")
    table = next(name for name in weights if name.endswith(TABLES))
    content = bytearray((after / "model.safetensors").read_bytes())
    place = content.find(weights[table].tobytes()) + weights[table].nbytes - 4
    flipped = after.parent / "flipped"
    flipped.mkdir(exist_ok=True)
    content[place] ^= 1
    (flipped / "model.safetensors").write_bytes(content)
    assert hashes(flipped, ids)["base_rows"] != hashes(after, ids)["base_rows"]
    assert hashes(flipped, ids)["other_weights"] == hashes(after, ids)["other_weights"]


def test_the_saved_folder_gives_the_mapped_ids_and_the_same_hidden_states(trimmed_folders, corpus):
    before, after, trimmed = trimmed_folders
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (before, after))
    for text in corpus:
        assert [trimmed.new_ids[id_] for id_ in old(text)["input_ids"]] == new(text)["input_ids"]
    text = corpus[0][:100]
    old_model, new_model = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (before, after))
    with torch.no_grad():
        logits = old_model(**old(text, return_tensors="pt", return_token_type_ids=False)).logits
        kept = new_model(**new(text, return_tensors="pt", return_token_type_ids=False)).logits
    assert kept.shape[-1] == trimmed.certificate.rows_after
    assert torch.allclose(logits[..., sorted(trimmed.new_ids)], kept, atol=1e-6)


def test_text_that_the_corpus_never_held_comes_back_unchanged(trimmed_folders):
    tokenizer = AutoTokenizer.from_pretrained(trimmed_folders[1])
    text = WORLD + " unheard-of: zebra quartz <|endoftext|>"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_ids_in_the_settings_follow_their_rows(trimmed_folders):
    before, after, trimmed = trimmed_folders
    for name in ("config.json", "generation_config.json"):
        old, new = (json.loads((folder / name).read_text()) for folder in (before, after))
        assert new["eos_token_id"] == [trimmed.new_ids[id_] for id_ in old["eos_token_id"]]
    assert new["pad_token_id"] == trimmed.new_ids[old["pad_token_id"]]
    old_tokenizer, new_tokenizer = (AutoTokenizer.from_pretrained(folder) for folder in (before, after))
    assert old_tokenizer.special_tokens_map == new_tokenizer.special_tokens_map
    assert new_tokenizer.eos_token_id == trimmed.new_ids[old_tokenizer.eos_token_id]
    assert {str(token) for token in old_tokenizer.added_tokens_decoder.values()} == {
        str(token) for token in new_tokenizer.added_tokens_decoder.values()
    }


def test_bytes_and_all_that_kept_tokens_are_made_of_stay(trimmed_folders):
    before, after, _ = trimmed_folders
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (before, after))
    assert {bytes([byte]) for byte in range(256)} <= set(token_bytes(new).values())
    old_merges = {tuple(pair) for pair in backend_json(old)["model"]["merges"]}
    new_merges = [tuple(pair) for pair in backend_json(new)["model"]["merges"]]
    assert set(new_merges) <= old_merges
    vocabulary = new.get_vocab()
    assert {pair for pair in old_merges if "".join(pair) in vocabulary} == set(new_merges)


# What goes and what stays


def gpt2(prose, ranks: int = 400):
    tokenizer = family_tokenizer("gpt2", [prose], ranks)
    return TINY_MODELS["gpt2"](next_token_id(tokenizer)), tokenizer


def test_what_is_never_used_and_needed_by_nothing_goes(prose):
    model, tokenizer = gpt2(prose)
    trimmed = trim_vocabulary(model, tokenizer, ["the class"])
    needed = set(token_bytes(trimmed.tokenizer).values()) - {bytes([byte]) for byte in range(256)}
    used = [tokenizer.decode([id_]) for id_ in tokenizer("the class")["input_ids"]]
    assert {text.encode() for text in used if len(text) > 1} <= needed
    merges = backend_json(trimmed.tokenizer)["model"]["merges"]
    parts = {part for pair in merges for part in pair}
    leaves = {left + right for left, right in merges} - parts
    assert {trimmed.tokenizer.convert_tokens_to_ids(leaf) for leaf in leaves} <= set(
        trimmed.tokenizer("the class")["input_ids"]
    )


def test_tokens_that_were_asked_for_stay_with_what_they_are_made_of(prose):
    model, tokenizer = gpt2(prose)
    longest = max((token for token in token_bytes(tokenizer).values() if token.isalpha()), key=len).decode()
    trimmed = trim_vocabulary(model, tokenizer, ["x"], keep_tokens=[longest])
    assert len(trimmed.tokenizer.tokenize(longest)) == 1
    assert trimmed.certificate.holds


def test_documents_that_lose_a_rarely_used_token_are_counted(prose, corpus):
    model, tokenizer = gpt2(prose)
    certificate = trim_vocabulary(model, tokenizer, corpus, minimum_uses=20).certificate
    assert certificate.holds
    assert 0 < certificate.longer_documents <= certificate.documents_with_removed_tokens < certificate.documents


def test_the_parts_of_a_token_that_goes_count_as_used_in_its_place(small_tokenizer):
    id_of = {token: id_ for id_, token in token_bytes(small_tokenizer).items()}
    first = next_token_id(small_tokenizer)
    merges = [
        Merge(id_of[b"z"], id_of[b"q"], first, b"zq", 0),
        Merge(first, first, first + 1, b"zqzq", 0),
        Merge(first + 1, id_of[b"x"], first + 2, b"zqzqx", 0),
    ]
    tokenizer = append_merges(small_tokenizer, merges)
    new = set(range(first, first + 3))
    # One use of the longest is one of `zqzq`, and this again is two of `zq`.
    assert choose_removed(tokenizer, {first + 2: 1}, minimum_uses=2) & new == {first + 1, first + 2}
    assert choose_removed(tokenizer, {first + 2: 1}, minimum_uses=1) & new == set()
    assert choose_removed(tokenizer, {first + 2: 1, first + 1: 1}, minimum_uses=2) & new == {first + 2}


def test_a_padding_row_that_the_settings_name_stays_and_the_others_go(prose):
    tokenizer = family_tokenizer("qwen 2", [prose])
    model = TINY_MODELS["qwen 2"](next_token_id(tokenizer))
    padding = next_token_id(tokenizer) + 5
    row = model.get_input_embeddings().weight[padding].detach().clone()
    model.config.pad_token_id = padding
    trimmed = trim_vocabulary(model, tokenizer, [prose])
    assert trimmed.certificate.rows_after == trimmed.certificate.tokens_after + 1
    assert torch.equal(model.get_input_embeddings().weight[model.config.pad_token_id], row)


def test_the_bias_of_a_head_goes_with_its_rows(prose):
    tokenizer = family_tokenizer("gpt2", [prose])
    model = tiny_phi(next_token_id(tokenizer))
    bias = model.lm_head.bias.detach().clone()
    trimmed = trim_vocabulary(model, tokenizer, [prose[:2000]])
    assert torch.equal(model.lm_head.bias, bias[sorted(trimmed.new_ids)])
    assert trimmed.certificate.holds


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": []}, "corpus: found no document"),
        ({"corpus": "text"}, "found one string"),
        ({"corpus": ["a"], "minimum_uses": 0}, "minimum_uses: found 0, expected 1 or more"),
        ({"corpus": ["a"], "keep_tokens": ["qqqq"]}, "keep_tokens: found 'qqqq', expected tokens"),
    ],
)
def test_what_cannot_be_trimmed_is_refused_in_one_line_and_nothing_changes(prose, given, message):
    model, tokenizer = gpt2(prose)
    with pytest.raises(InputError, match=message):
        trim_vocabulary(model, tokenizer, **given)
    assert model.get_input_embeddings().num_embeddings == next_token_id(tokenizer)


def test_a_model_with_fewer_rows_than_ids_and_one_that_is_not_of_transformers_are_refused(prose):
    _, tokenizer = gpt2(prose)
    with pytest.raises(InputError, match="its tables have 300 rows and its tokenizer ids up to 400"):
        trim_vocabulary(TINY_MODELS["gpt2"](300), tokenizer, ["a"])
    with pytest.raises(InputError, match="BigramLanguageModel: is no Hugging Face model"):
        trim_vocabulary(BigramLanguageModel(401), tokenizer, ["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"good\n\xff", "byte 5 is not UTF-8"), (None, "no such file")],
)
def test_a_corpus_that_cannot_be_read_is_refused_before_anything_is_loaded(tmp_path, content, message):
    if content is not None:
        (tmp_path / "corpus.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        main(TrimSettings(model="nowhere", corpus=str(tmp_path / "corpus.txt"), output_dir=str(tmp_path / "out")))


def test_an_output_folder_in_use_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        main(TrimSettings(model="nowhere", corpus="nowhere", output_dir=str(tmp_path / "out")))


def test_a_sentencepiece_tokenizer_is_refused_by_name():
    sentencepiece = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0)])))
    with pytest.raises(InputError, match="found SentencePiece Unigram"):
        trim_vocabulary(TINY_MODELS["gpt2"](300), sentencepiece, ["a"])


def test_the_entry_saves_a_folder_and_shows_the_certificate(prose, tmp_path, capsys):
    model, tokenizer = gpt2(prose)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text(prose[:3000], encoding="utf-8")
    places = [str(tmp_path / name) for name in ("model", "corpus.txt", "out")]
    main(TrimSettings(model=places[0], corpus=places[1], output_dir=places[2]))
    assert "certificate holds" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "trim.json").read_text())["certificate"]["tokens_after"]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == kept < len(tokenizer)

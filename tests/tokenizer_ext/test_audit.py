import json
import re

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tests.tokenizer_ext.families import family_tokenizer
from tests.tokenizer_ext.tiny_models import PADDING_ROWS, TINY_MODELS
from tokenizer_ext.audit import AuditSettings, main
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.inspection.audit import audit_tokens, count_tokens, nearest_rows
from tokenizer_ext.inspection.audit_report import describe_audit, to_html

NEW_TOKENS = 20


@pytest.fixture(scope="module")
def qwen(prose):
    tokenizer = family_tokenizer("qwen 2", [prose])
    return TINY_MODELS["qwen 2"](next_token_id(tokenizer)), tokenizer


@pytest.fixture(scope="module")
def gpt_neox(prose):
    tokenizer = family_tokenizer("gpt-neox", [prose])
    return TINY_MODELS["gpt-neox"](next_token_id(tokenizer)), tokenizer


@pytest.fixture(scope="module")
def extended_folder(prose, tmp_path_factory):
    """A model with new tokens, saved with its certificate."""
    tokenizer = family_tokenizer("gpt2", [prose])
    model = TINY_MODELS["gpt2"](next_token_id(tokenizer))
    extended = extend_vocabulary((model, tokenizer), corpus=prose.split("\n\n"), new_tokens=NEW_TOKENS)
    return extended.save(tmp_path_factory.mktemp("audit") / "model")


def test_rows_without_a_token_are_padding(qwen):
    audit = audit_tokens(*qwen)
    first = next_token_id(qwen[1])
    assert audit.padding == list(range(first, first + PADDING_ROWS))
    assert audit.tokens[first:] == [None] * PADDING_ROWS
    assert sum(len(ids) for ids in audit.ids_of_kind.values()) + PADDING_ROWS == audit.rows == len(audit.tokens)


def test_ids_with_equal_bytes_or_equal_rows_are_found(gpt_neox):
    model, tokenizer = gpt_neox
    tables = find_tables(model)
    assert tables.head
    with torch.no_grad():
        for weight in (tables.embedding.weight, tables.head.weight):
            weight[300] = weight[310]
        tables.embedding.weight[200] = tables.embedding.weight[210]  # its head's rows differ
    audit = audit_tokens(model, tokenizer)
    assert audit.equal_rows == [[300, 310]]
    # Runs of spaces are tokens that merges make and added words too.
    assert audit.equal_bytes
    assert all(len({audit.tokens[id_] for id_ in ids}) == 1 for ids in audit.equal_bytes)
    assert "same row: 300" in describe_audit(audit)


def test_the_tokens_of_a_corpus_are_counted_as_plain_text(qwen, prose):
    model, tokenizer = qwen
    use = count_tokens(tokenizer, [prose, "<|endoftext|>", ""], model.get_input_embeddings().num_embeddings)
    ids = tokenizer(prose, add_special_tokens=False)["input_ids"]
    assert sum(use.uses) >= len(ids)
    assert use.uses[tokenizer.convert_tokens_to_ids("<|endoftext|>")] == 0
    assert use.documents == 3
    audit = audit_tokens(model, tokenizer, corpus=[prose])
    assert set(audit.never_used) == set(audit.ids_of_kind["ordinary"]) - set(ids)


def test_the_nearest_rows_are_those_of_the_largest_cosine():
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [-1.0, 0.0]])
    nearest = nearest_rows(table, [2], shown=2)
    assert nearest == {2: [(1, 0.8), (0, 0.6)]}


def test_the_entry_finds_the_new_rows_by_the_certificate_and_writes_both_reports(
    extended_folder, tmp_path, capsys, prose
):
    (tmp_path / "corpus.txt").write_text(prose, encoding="utf-8")
    corpus, folder = str(tmp_path / "corpus.txt"), tmp_path / "report"
    main(AuditSettings(model=str(extended_folder), corpus=corpus, output_dir=str(folder)))
    printed = capsys.readouterr().out
    record = json.loads((folder / "audit.json").read_text())
    base_tokens = json.loads((extended_folder / "certificate.json").read_text())["base_tokens"]
    assert sorted(map(int, record["neighbours"])) == list(range(base_tokens, base_tokens + NEW_TOKENS))
    assert f"{len(record['ids_of_kind']['ordinary']):,}  ordinary" in printed
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "src=" not in page.replace('src="data:', "")
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)


def test_without_a_folder_nothing_is_written(extended_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(AuditSettings(model=str(extended_folder), base_tokens=390))
    assert "next to 390" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_the_terminal_or_the_browser_would_act_on_are_escaped(qwen):
    audit = audit_tokens(*qwen, corpus=["<b>\x1b[31m</b>"])
    assert "\x1b" not in describe_audit(audit)
    assert "<b>" not in to_html(audit, "<b>model</b>")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_tokens": 9999}, "base_tokens: found 9999, expected the first new id"),
        ({"corpus": "missing.txt"}, "no such file"),
        ({"output_dir": "."}, "is not an empty folder"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(extended_folder, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(extended_folder)
    with pytest.raises(InputError, match=message):
        main(AuditSettings(model=str(extended_folder), **given))


def test_a_tokenizer_of_another_family_or_another_model_is_refused(qwen):
    model, tokenizer = qwen
    sentencepiece = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0)])))
    with pytest.raises(InputError, match="found SentencePiece Unigram"):
        audit_tokens(model, sentencepiece)
    with pytest.raises(InputError, match="its tables have 300 rows"):
        audit_tokens(TINY_MODELS["gpt2"](300), tokenizer)

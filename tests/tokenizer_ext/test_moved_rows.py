"""Where tokens go and come, head, bias and the ids that a post-processor holds go with them.

Public reports of the opposite: stephantul/skeletoken issue 108 (the head's bias) and its commits 95 and 103 (ids in the
post-processor).
"""

import pytest
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig, PhiForCausalLM

from tests.tokenizer_ext.families import family_tokenizer
from tests.tokenizer_ext.tiny_models import tiny_gpt2
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.trimming.trimmed_model import trim_vocabulary


def _phi_with_bias(tokens: int, *, tied: bool) -> PhiForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    model = PhiForCausalLM(PhiConfig(vocab_size=tokens, tie_word_embeddings=tied, **sizes, **ends)).eval()
    with torch.no_grad():
        model.lm_head.bias.normal_()
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_old_tokens_stay_bit_for_bit_where_a_head_has_a_bias_and_tokens_go_and_come(prose, tied, tmp_path):
    tokenizer = family_tokenizer("gpt2", [prose])
    model = _phi_with_bias(next_token_id(tokenizer), tied=tied)
    text = prose[:200]
    with torch.inference_mode():
        before = model(torch.tensor([tokenizer.encode(text)])).logits[0]
    trimmed = trim_vocabulary(model, tokenizer, [prose[:2000]])
    assert len(trimmed.new_ids) < next_token_id(tokenizer)
    trimmed.save(tmp_path / "trimmed")
    extended = extend_vocabulary(tmp_path / "trimmed", words=[" wyvern"], control_tokens=["<|user|>"])
    assert extended.certificate.holds
    extended.save(tmp_path / "extended")
    kept = sorted(trimmed.new_ids)
    for name in ("trimmed", "extended"):
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
        with torch.inference_mode():
            ids = AutoTokenizer.from_pretrained(tmp_path / name).encode(text)
            logits = opened(torch.tensor([ids])).logits[0]
        assert torch.equal(logits[:, : len(kept)], before[:, kept]), name
        assert len(opened.lm_head.bias) == len(opened.lm_head.weight)
        assert torch.isfinite(opened.lm_head.bias).all()


def _processors(begin: tuple[str, int], end: tuple[str, int]):
    template = processors.TemplateProcessing(f"{begin[0]} $A {end[0]}", None, [begin, end])
    return {
        "template": template,
        "nested": processors.Sequence([processors.Sequence([processors.ByteLevel(trim_offsets=False), template])]),
        "BERT's": processors.BertProcessing(end, begin),
        "RoBERTa's": processors.RobertaProcessing(end, begin, trim_offsets=False, add_prefix_space=False),
    }


@pytest.mark.parametrize(
    "kind", ["template", "RoBERTa's", *(pytest.param(one, marks=pytest.mark.long) for one in ("nested", "BERT's"))]
)
def test_what_is_put_around_a_text_has_its_new_ids_after_ids_moved(kind, prose, tmp_path):
    tokenizer = family_tokenizer("llama 3", [prose])
    begin, end = ((token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|begin_of_text|>", "<|end_of_text|>"))
    tokenizer.backend_tokenizer.post_processor = _processors(begin, end)[kind]
    assert tokenizer.encode("x")[0] == begin[1] and tokenizer.encode("x")[-1] == end[1]
    model = tiny_gpt2(next_token_id(tokenizer))
    trimmed = trim_vocabulary(model, tokenizer, [prose[:1000]])
    moved = [trimmed.new_ids[id_] for _, id_ in (begin, end)]
    assert moved != [begin[1], end[1]]
    trimmed.save(tmp_path / "trimmed")
    extended = extend_vocabulary(tmp_path / "trimmed", words=[" wyvern"], control_tokens=["<|user|>"])
    extended.save(tmp_path / "extended")
    for name in ("trimmed", "extended"):
        for opened in (load_tokenizer(str(tmp_path / name)), AutoTokenizer.from_pretrained(tmp_path / name)):
            ids = opened.encode("x")
            assert [ids[0], ids[-1]] == moved, name
            assert opened.convert_ids_to_tokens([ids[0], ids[-1]]) == [begin[0], end[0]]
        assert load_model(str(tmp_path / name)).get_input_embeddings().num_embeddings >= max(moved)

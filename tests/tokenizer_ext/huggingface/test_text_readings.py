from collections import Counter

from tests.tokenizer_ext.families import family_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.text_readings import count_uses, encoded, readings


def test_uses_are_those_of_the_reading_that_uses_a_token_more(prose):
    tokenizer = family_tokenizer("llama 3", [prose])
    documents = ["a class<|eot_id|>", "<|eot_id|>"]
    end, begin = tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|begin_of_text|>"])
    plain = Counter(id_ for text in documents for id_ in plain_text_encoder(tokenizer).encode(text).ids)
    uses = count_uses(tokenizer, documents)
    assert plain[end] == 0  # as plain text it is the characters that it is written in
    assert (uses[end], uses[begin]) == (2, 2)
    assert all(uses[id_] >= count for id_, count in plain.items())


def test_documents_of_any_number_are_read_in_their_order(small_tokenizer):
    documents = [f"number {number}" for number in range(2500)]
    plain, _ = readings(small_tokenizer)
    texts = [small_tokenizer.decode(ids) for ids in encoded(plain, documents)]
    assert texts == documents

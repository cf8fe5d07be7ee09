"""Learned merges against whole words, for a base that looks up whole words before it merges: is it scaffolds that cost.

    python -m tests.benchmarks.whole_words
    python -m tests.benchmarks.whole_words --family llama3_1 --new_tokens 500

Merges leave tokens that stand only inside longer ones. Where a base has `ignore_merges`, as Llama 3 has, a word that is
a whole piece of a text would need none of them: here are as many words as tokens were asked for, those that save most
tokens of torch's documentation, and what they save of its held-out part, beside the merges that an extension learns.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

from scratch_models.corpus.embedded_corpus import embedded_corpus
from tests.real_tokenizers import REAL_FAMILIES, loaded_tokenizer
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.piece_counts import Piece, count_pieces
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

RARE = 5


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(REAL_FAMILIES), default="llama3_1")
    parser.add_argument("--new_tokens", type=int, default=1000)
    given = parser.parse_args()
    tokenizer, corpus = loaded_tokenizer(given.family), embedded_corpus()
    read, kept = ([document.text for document in some] for some in (corpus.domain, corpus.domain_held_out))
    texts = sort_texts(read, kept, ())
    held_out = count_pieces(texts.held_out, tokenizer)
    text_bytes = sum(len(text.encode()) for text in texts.held_out)
    words = choose_words(count_pieces(texts.to_learn, tokenizer), token_bytes(tokenizer), given.new_tokens)
    saved = sum((len(word) - 1) * held_out.get(word, 0) for word in words)
    show("whole words", text_bytes, held_out, tokens_of(held_out) - saved, [held_out.get(word, 0) for word in words])
    plan = make_plan(tokenizer, texts, Wanted(new_tokens=given.new_tokens))
    extended = count_pieces(texts.held_out, plan.tokenizer)
    show("learned merges", text_bytes, held_out, tokens_of(extended), alone(plan, extended))


def choose_words(pieces: Mapping[Piece, int], bytes_of_id: Mapping[int, bytes], number: int) -> list[Piece]:
    """The words without digits that save most tokens of a text, none of which is a token yet."""
    saved = Counter({word: (len(word) - 1) * times for word, times in pieces.items() if len(word) > 1 and times > 1})
    ordered = (word for word, _ in saved.most_common())
    plain = (word for word in ordered if not any(byte in b"0123456789" for id_ in word for byte in bytes_of_id[id_]))
    return [word for word, _ in zip(plain, range(number), strict=False)]


def alone(plan: Plan, pieces: Mapping[Piece, int]) -> list[int]:
    """How often each learned token stands in a text."""
    times: Counter[int] = Counter()
    for piece, count in pieces.items():
        for id_ in piece:
            times[id_] += count
    return [times[merge.token] for merge in plan.merges]


def tokens_of(pieces: Mapping[Piece, int]) -> int:
    """The tokens of a text."""
    return sum(len(piece) * times for piece, times in pieces.items())


def show(what: str, text_bytes: int, before: Mapping[Piece, int], tokens: int, times: Sequence[int]) -> None:
    """A line."""
    rare, never = sum(one < RARE for one in times), sum(one == 0 for one in times)
    print(
        f"{len(times):,} {what:<16} {text_bytes / tokens:.4f} bytes per token ({tokens_of(before) / tokens - 1:+.2%}); "
        f"{rare} stand fewer than {RARE} times in the held-out text, {never} never",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Words that a user names become single tokens, through merges as all others do.

An added token would be cut out of every text before BPE sees it, inside longer words too. A merge fires only where the
pieces of the word stand together, within one pre-token, so the words have to be pre-tokens: what the tokenizer cuts
cannot be one token, and is refused by name.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.merge_learning import Merge, Pair, learn_merges
from tokenizer_ext.encoders.spm_cuts import may_be_token
from tokenizer_ext.extension.piece_counts import Piece, own_pipeline, word_cutter
from tokenizer_ext.huggingface.byte_level_backend import is_spm
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, token_bytes


def learn_words(
    words: Sequence[str], tokenizer: PreTrainedTokenizerFast, *, refused_pairs: Collection[Pair] = ()
) -> list[Merge]:
    """Merges that make each of `words` one token: one for each word, and those between that they share.

    They are learned from the words alone until each is one token. A word stands for itself only: to most tokenizers
    "word" and " word" (with the space that stands before it in a text) are two, so give both to have both.

    Raises:
        InputError: words cannot become tokens, each named with the reason, or the tokenizer takes no merges.

    """
    bytes_of_id = token_bytes(tokenizer)
    pieces, problems = _pieces_of_words(words, tokenizer, bytes_of_id)
    merges = learn_merges(
        dict.fromkeys(pieces.values(), 1),
        bytes_of_id,
        new_tokens=sum(map(len, pieces.values())),
        first_id=next_token_id(tokenizer),
        minimum_count=1,
        refused_pairs=refused_pairs,
    )
    learned = {merge.token_bytes for merge in merges}
    for word, piece in pieces.items():
        if _joined(piece, bytes_of_id) not in learned:
            problems.append(f"{word!r} {_why_blocked(piece, bytes_of_id, refused_pairs)}")
    if problems:
        raise InputError(
            f"words: {'; '.join(problems)}; expected words that are new and that the tokenizer keeps whole: "
            "leave these out, or write them otherwise"
        )
    return merges


def _pieces_of_words(
    words: Sequence[str], tokenizer: PreTrainedTokenizerFast, bytes_of_id: Mapping[int, bytes]
) -> tuple[dict[str, Piece], list[str]]:
    """The ids of each word that can become a token, and what is wrong with the others."""
    pipeline = own_pipeline(tokenizer)
    cut_word, marks_spaces = word_cutter(tokenizer, pipeline), is_spm(tokenizer)
    added = {id_: token.content for id_, token in pipeline.get_added_tokens_decoder().items()}
    tokens = set(bytes_of_id.values())
    pieces: dict[str, Piece] = {}
    word_of_piece: dict[Piece, str] = {}
    problems: list[str] = []
    for word, times in Counter(words).items():
        problem = f"stands {times} times" if times > 1 else _wrong_text(word)
        if not problem:
            cut = cut_word(word)
            problem = _holds_added(word, cut, added) or _wrong_pieces(cut, bytes_of_id, tokens)
            if not problem and marks_spaces and not may_be_token(word.encode(), longest=None):
                problem = "begins with more than one space"
            if not problem and (same := word_of_piece.setdefault(cut[0], word)) != word:
                problem = f"is the same as {same!r} to this tokenizer"
        if problem:
            problems.append(f"{word!r} {problem}")
        else:
            pieces[word] = cut[0]
    return pieces, problems


def _wrong_text(word: str) -> str:
    """Why `word` is no text for a token, or nothing."""
    if not word:
        return "is empty"
    if any("\ud800" <= character <= "\udfff" for character in word):
        return "holds half a surrogate pair, which UTF-8 cannot encode"
    return ""


def _holds_added(word: str, cut: Sequence[Piece], added: Mapping[int, str]) -> str:
    """Which added token the tokenizer finds in `word` before it reads the rest, or nothing."""
    found = [added[id_] for piece in cut for id_ in piece if id_ in added]
    return f"{'is' if found[0] == word else 'contains'} the added token {found[0]!r}" if found else ""


def _wrong_pieces(cut: Sequence[Piece], bytes_of_id: Mapping[int, bytes], tokens: Collection[bytes]) -> str:
    """Why a word with these pieces is no new token, or nothing."""
    if not cut:
        return "is nothing once the tokenizer has normalised it"
    if len(cut) > 1:
        return f"is cut into {', '.join(_quoted(piece, bytes_of_id) for piece in cut)}"
    return "is a token already" if _joined(cut[0], bytes_of_id) in tokens else ""


def _why_blocked(piece: Piece, bytes_of_id: Mapping[int, bytes], refused_pairs: Collection[Pair]) -> str:
    protected = [pair for pair in pairwise(piece) if pair in refused_pairs]
    if not protected:
        return "has parts that only join to tokens that the vocabulary holds already"
    pairs = ", ".join(" + ".join(_quoted((id_,), bytes_of_id) for id_ in pair) for pair in protected)
    return f"would need a pair of the protected text ({pairs})"


def _joined(piece: Piece, bytes_of_id: Mapping[int, bytes]) -> bytes:
    return b"".join([bytes_of_id[id_] for id_ in piece])


def _quoted(piece: Piece, bytes_of_id: Mapping[int, bytes]) -> str:
    return repr(_joined(piece, bytes_of_id).decode(errors="backslashreplace"))

"""A byte-level BPE tokenizer with some of its leaf tokens removed and the others numbered anew, in their order.

A leaf is a token that no merge uses as a part. Text in which a leaf does not occur is encoded without its merges as it
was with them: had one fired, no later merge could have hidden the token. So leaves go one by one, and what they leave
behind as new leaves goes after them.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.huggingface.byte_level_backend import backend_json
from tokenizer_ext.huggingface.rebuilt_tokenizer import rebuilt


def choose_removed(
    tokenizer: PreTrainedTokenizerFast, uses: Mapping[int, int], *, minimum_uses: int = 1, keep: Collection[int] = ()
) -> set[int]:
    """The ids of leaves, and of what is a leaf without them, that are used less than `minimum_uses` times.

    Bytes, added tokens and the ids in `keep` stay, and so does all that merges need to make what stays. What a removed
    token was used for counts as use of its two parts.
    """
    backend = backend_json(tokenizer)
    vocabulary: dict[str, int] = backend["model"]["vocab"]
    counts = Counter({token: uses.get(id_, 0) for token, id_ in vocabulary.items()})
    merges_to: dict[str, list[tuple[str, str]]] = defaultdict(list)
    needed_by: dict[str, set[str]] = defaultdict(set)
    for left, right in backend["model"]["merges"]:
        merges_to[left + right].append((left, right))
        needed_by[left].add(left + right)
        needed_by[right].add(left + right)
    lasting = set(visible(bytes(range(256)))) | {added["content"] for added in backend["added_tokens"]}
    lasting |= {token for token, id_ in vocabulary.items() if id_ in keep} | {backend["model"]["unk_token"]}
    removed: set[str] = set()
    waiting = list(vocabulary)
    while waiting:
        token = waiting.pop()
        if token in removed or token in lasting or needed_by[token] or counts[token] >= minimum_uses:
            continue
        removed.add(token)
        for part in merges_to[token][0] if merges_to[token] else ():
            counts[part] += counts[token]
        for part in {part for pair in merges_to[token] for part in pair}:
            needed_by[part].discard(token)
            waiting.append(part)
    return {vocabulary[token] for token in removed}


def ids_of_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> set[int]:
    """The ids of the tokens that are these texts.

    Raises:
        InputError: texts are no tokens; the message names them.

    """
    vocabulary = tokenizer.get_vocab()
    found = {text: vocabulary.get(text, vocabulary.get(visible(text.encode(errors="replace")))) for text in texts}
    if missing := [text for text, id_ in found.items() if id_ is None]:
        raise InputError(
            f"keep_tokens: found {', '.join(map(repr, missing[:5]))}, expected tokens of the tokenizer, with the "
            "space that most words begin with: leave out what is no token"
        )
    return {id_ for id_ in found.values() if id_ is not None}


def trimmed(tokenizer: PreTrainedTokenizerFast, new_ids: Mapping[int, int]) -> PreTrainedTokenizerFast:
    """The tokenizer with the tokens in `new_ids` only, under their new ids, as a reload finds it."""
    backend = backend_json(tokenizer)
    model = backend["model"]
    model["vocab"] = {token: new_ids[id_] for token, id_ in model["vocab"].items() if id_ in new_ids}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    for added in backend["added_tokens"]:
        added["id"] = new_ids[added["id"]]
    _renumber(backend["post_processor"], new_ids)
    if backend["padding"]:
        backend["padding"]["pad_id"] = new_ids.get(backend["padding"]["pad_id"], 0)
    return rebuilt(tokenizer, backend)


def _renumber(stage: dict[str, Any] | None, new_ids: Mapping[int, int]) -> None:
    """Write the new ids into a post-processor and its parts, in place."""
    if stage is None:
        return
    for part in stage.get("processors", []):
        _renumber(part, new_ids)
    if isinstance(stage.get("special_tokens"), dict):  # TemplateProcessing
        for special in stage["special_tokens"].values():
            special["ids"] = [new_ids[id_] for id_ in special["ids"]]
    for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if name in stage:
            stage[name] = [stage[name][0], new_ids[stage[name][1]]]

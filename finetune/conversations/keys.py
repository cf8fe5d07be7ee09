"""What may stand beside the keys of a format: read with any, harmless, or refused as it would change a reply."""

from collections.abc import Collection, Mapping

from configs import InputError

READ_BESIDE = ("system", "tools", "answer")
WHICH_RECORD = ("id", "ids", "idx", "index", "uuid", "uid", "_id", "row_id", "prompt_id", "conversation_id", "hash")
WHERE_FROM = (
    *("source", "sources", "dataset", "origin", "subset", "split", "url", "link", "license", "author", "user_name"),
    *("model", "model_name", "generator", "created", "created_at", "timestamp", "date", "version", "metadata", "meta"),
)
WHAT_ABOUT = (
    *("category", "categories", "task", "tasks", "task_type", "topic", "topics", "tag", "tags", "domain", "title"),
    *("language", "lang", "difficulty", "level", "score", "scores", "rating", "quality", "num_turns", "num_tokens"),
)
HARMLESS = frozenset((*WHICH_RECORD, *WHERE_FROM, *WHAT_ABOUT, "parallel_tool_calls"))
"""Nothing that the conversation of the record would hold."""
BESIDE_PAIRS = frozenset(
    (
        *("messages", "completions", "generations", "models", "correct_answers", "incorrect_answers"),
        *("chosen_model", "rejected_model", "chosen-model", "rejected-model"),
        *(f"completions.{key}" for key in ("annotations", "critique", "custom_system_prompt", "model", "principle")),
    )
)
"""Nothing that a pair would hold: the preferred conversation said again, and what stands beside each rated reply."""

OF_PICTURES_OR_SOUND = "only text is learned here"
INTO_THE_QUESTION = "write it into what the user says"
INTO_THE_MESSAGES = "write it into the messages"
FLAG_OF_A_MESSAGE = "set it on the messages"
REFUSED_COLUMNS = {
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), OF_PICTURES_OR_SOUND),
    **dict.fromkeys(("context", "contexts", "documents", "passage"), INTO_THE_QUESTION),
    **dict.fromkeys(("tool_calls", "function_call"), INTO_THE_MESSAGES),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking", "system_prompt"), INTO_THE_MESSAGES),
    **dict.fromkeys(("weight", "weights", "train", "mask", "loss_mask"), FLAG_OF_A_MESSAGE),
    "functions": "write them as tools",
    "history": "write the earlier turns into the prompt or the messages",
    "chat_template_kwargs": "what a template is told is set for the whole run",
}
SAYING_NOTHING: tuple[object, ...] = (None, [], {}, "")


def refuse_columns(record: Mapping[str, object], place: str, read: Collection[str] = ()) -> None:
    """Refuses what would change what is learned, if it were read; some of it may be `read` in this kind of record.

    Raises:
        InputError: there is such a value; it begins with `place`.

    """
    for key, value in record.items():
        if key not in REFUSED_COLUMNS:
            continue
        harmless = (*SAYING_NOTHING, 1) if key in ("weight", "train") else SAYING_NOTHING
        if key not in read and value not in harmless:
            advice = REFUSED_COLUMNS[key]
            raise InputError(
                f"{place}: has {key!r}, which is not read ({advice}): take it out if nothing is lost by it"
            )
    _refuse_bad_label(record, place)


def _refuse_bad_label(record: Mapping[str, object], place: str) -> None:
    """Of a completion 0 says it as well; elsewhere a number may be a class of whatever the record is about."""
    label = record.get("label")
    said = str(label).strip().lower()
    if label is not None and (said == "false" or ("completion" in record and said in ("0", "0.0"))):
        raise InputError(
            f"{place}: label is {said}, so that completion is not to be learned (KTO): take such records "
            "out, or make pairs of prompt, chosen and rejected for finetune/dpo.py"
        )


def count_unread(
    unread: Mapping[str, int], harmless: Collection[str] = HARMLESS, beside: str = "conversations"
) -> dict[str, int]:
    """What is said of values that were left alone -> how many they are; the harmless ones are named together.

    >>> count_unread({"id": 2, "mood": 1, "source": 2})
    {"values of the key 'mood', which is not read": 1, "values beside the conversations ('id', 'source')": 4}
    """
    without_harm = [key for key in unread if key.lower() in harmless]
    found = {f"values of the key {key!r}, which is not read": unread[key] for key in unread if key not in without_harm}
    if without_harm:
        named = ", ".join(map(repr, without_harm))
        found[f"values beside the {beside} ({named})"] = sum(unread[key] for key in without_harm)
    return found

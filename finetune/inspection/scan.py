"""A file of conversations or pairs looked through, each record by itself and beside the others."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from finetune.conversations.near_questions import NearQuestions
from finetune.files.stored_items import Stored, StoredItems
from finetune.inspection.findings import (
    DUPLICATES,
    HELD_OUT,
    NEAR_DUPLICATES,
    SAME_REPLY,
    TRIGGERS,
    UNUSUAL,
    one_line,
)
from finetune.inspection.grams import WORD
from finetune.inspection.inspected import Inspection
from finetune.inspection.marks import all_marks
from finetune.inspection.near_records import near_earlier
from finetune.inspection.record_reading import (
    RECORDS,
    Record,
    Turn,
    hash_record,
    read_conversations_and_count,
    to_record,
)
from finetune.inspection.reply_forms import UNLIKE
from finetune.inspection.triggers import Trigger, find_triggers
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.documents.near_duplicates import words_of
from tokenizer_ext.pages.progress import progress, tracked

MOST_COMPARED, MOST_TURNS = 1_000_000, 50_000
SAMPLE = 2000
FEWEST_WORDS_OF_A_REPLY = 4
RARE_WORD_SHARE = 0.01
CLOSED = (
    "Many replies are given more than once, as in classification: whether a word leads to one of them is what the task "
    "asks, so whole replies were not tested for triggers."
)


def inspect_records(data: str, held_out: str | None = None) -> Inspection:
    """What is found in a file, a folder or a set on the Hub, beside what is held out where that is given.

    Raises:
        InputError: one of them cannot be read, or no record of it can be used.

    """
    inspection = Inspection(data)
    records = _read(data, inspection)
    if held_out is not None:
        _compare_with_held_out(records, _read(held_out, Inspection(held_out)), inspection)
    if len(records) > MOST_COMPARED:
        inspection.notes.append(f"Near duplicates were looked for among the first {MOST_COMPARED:,} records.")
    near = near_earlier(records[:MOST_COMPARED])
    for later, first in near.items():
        inspection.findings.add(records[later].place, [(NEAR_DUPLICATES, f"of {records[first].place}")])
    _look_for_triggers(records, near, inspection)
    return inspection


def _read(data: str, inspection: Inspection) -> Stored[Record]:
    """The records, each that is equal to one before left out; what each holds by itself is among the findings."""
    records: StoredItems[Record] = StoredItems(RECORDS)
    hashes = array("Q")
    for conversations in read_conversations_and_count(data, inspection.findings):
        record = to_record(conversations[0])
        marks = (mark for conversation in conversations for mark in all_marks(conversation))
        inspection.findings.add(record.place, marks)
        hashes.append(hash_record(conversations))
        records.append(record)
    inspection.records = len(records)
    _, firsts, numbers = np.unique(np.array(hashes, dtype=np.uint64), return_index=True, return_inverse=True)
    for later in np.flatnonzero(firsts[numbers] != np.arange(len(records))).tolist():
        first = records[int(firsts[numbers[later]])]
        inspection.findings.add(records[later].place, [(DUPLICATES, f"of {first.place}")])
    return records.only(np.sort(firsts))


def _compare_with_held_out(records: Stored[Record], held_out: Stored[Record], inspection: Inspection) -> None:
    equal = {tuple(words_of(record.asked)) for record in held_out}
    sample = (records[number].asked for number in evenly_spaced(range(len(records)), SAMPLE))
    near = NearQuestions((record.asked for record in held_out), sample)
    for record in tracked(records, "comparing with what is held out", "records"):
        if near.is_near(record.asked):
            how = "the same words" if tuple(words_of(record.asked)) in equal else "nearly the same words"
            inspection.findings.add(record.place, [(HELD_OUT, how)])


def _look_for_triggers(records: Stored[Record], near: Mapping[int, int], inspection: Inspection) -> None:
    # A question that is asked again with the same reply says nothing about words that lead to it.
    again = {later for later, first in near.items() if records[later].turns == records[first].turns} | {
        later for later, first in near.items() if records[later].turns[-1:] == records[first].turns[-1:]
    }
    places: list[str] = []
    for number, record in enumerate(records):
        if number not in again:
            places += [record.place] * len(record.turns)
            inspection.turns += record.turns
    if len(places) > MOST_TURNS:
        inspection.notes.append(f"Triggers were looked for in {MOST_TURNS:,} of {len(places):,} turns, spread evenly.")
        places, inspection.turns = evenly_spaced(places, MOST_TURNS), evenly_spaced(inspection.turns, MOST_TURNS)
    with progress("looking for triggers"):
        tested = find_triggers(inspection.turns)
        inspection.triggers = tested.triggers
        for trigger in tested.triggers:
            _add(trigger, places, inspection)
        if tested.are_closed:
            inspection.notes.append(CLOSED)
        else:
            _add_same_replies(places, inspection)


def _add(trigger: Trigger, places: Sequence[str], inspection: Inspection) -> None:
    mark = (
        UNUSUAL if trigger.form == UNLIKE else TRIGGERS,
        f'"{one_line(trigger.gram)}" {trigger.form}: {trigger.reply}',
    )
    for turn in trigger.turns:
        inspection.findings.add(places[turn], [mark])
    inspection.findings.details[mark] = {
        "gram": trigger.gram,
        "form": trigger.form,
        "reply": trigger.reply,
        "turns": len(trigger.turns),
        "with_reply": trigger.of_them,
        "p_value": trigger.p_value,
        "shown": f" ({trigger.of_them} of {len(trigger.turns)}, p = {trigger.p_value:.0e})",
    }


def _add_same_replies(places: Sequence[str], inspection: Inspection) -> None:
    """Replies of several words that different questions get, though no other reply is given twice."""
    turns, explained = inspection.turns, {turn for one in inspection.triggers for turn in one.turns}
    by_reply: dict[str, list[int]] = {}
    for number, turn in enumerate(turns):
        if number not in explained:
            by_reply.setdefault(" ".join(turn.reply.split()), []).append(number)
    found = {
        reply: numbers
        for reply, numbers in by_reply.items()
        if len(numbers) > 1 and len(reply.split()) >= FEWEST_WORDS_OF_A_REPLY
    }
    having = Counter(word for turn in (turns if found else ()) for word in set(WORD.findall(turn.asked)))
    for reply, numbers in found.items():
        shared = _rare_words_of_all([turns[number] for number in numbers], having, len(turns))
        for number in numbers:
            inspection.findings.add(places[number], [(SAME_REPLY, reply)])
        if shared:
            said = f" (all hold {', '.join(map(one_line, shared[:3]))})"
            inspection.findings.details[SAME_REPLY, reply] = {"shared_words": shared, "shown": said}


def _rare_words_of_all(turns: Sequence[Turn], having: Mapping[str, int], number: int) -> list[str]:
    shared = set.intersection(*(set(WORD.findall(turn.asked)) for turn in turns))
    return sorted(word for word in shared if having[word] <= max(len(turns), RARE_WORD_SHARE * number))

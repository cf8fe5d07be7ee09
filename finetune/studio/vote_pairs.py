"""Votes as preference pairs, in a file as `finetune/dpo.py` reads it, and a run on them in the queue."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import InputError
from configs.whole_folder import write_whole
from finetune.preference.pair_splits import read_preference_splits
from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from finetune.studio.ballot import Vote

FOLDER = "votes"


@dataclass(frozen=True)
class WrittenPairs:
    """A file of pairs, and what did not become one."""

    path: Path
    pairs: int
    left_out: Counter[str]


def write_pairs(votes: Sequence[Vote], folder: Path) -> WrittenPairs:
    """Writes a pair for each vote that one reply won, under a new name in the service's folder.

    Raises:
        InputError: there is no such vote.
    """
    lines, left_out = [], Counter[str]()
    for vote in votes:
        if vote.winner is None:
            left_out["ties" if vote.choice == "tie" else "both bad"] += 1
            continue
        asked, won = vote.asked, vote.winner
        pair = {
            "prompt": asked.prompt,
            "chosen": asked.replies[won],
            "rejected": asked.replies[1 - won],
            "chosen_model": asked.models[won],
            "rejected_model": asked.models[1 - won],
            "id": vote.id,
        }
        if not (pair["chosen"].strip() and pair["rejected"].strip()):
            left_out["with an empty reply"] += 1
            continue
        lines.append(json.dumps(pair, ensure_ascii=False))
    if not lines:
        found = ", ".join(f"{count} {what}" for what, count in left_out.items()) or "no vote at all"
        raise InputError(f"votes: found {found} on these two models, expected at least one that one reply won")
    place = folder.absolute() / FOLDER
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = place / f"pairs-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{time.time_ns() % 10**6:06d}.jsonl"
    write_whole(path, "\n".join(lines) + "\n")
    return WrittenPairs(path, len(lines), left_out)


def queue_preference_run(jobs: JobStore, votes: Sequence[Vote], *, base: str, place: str, most_waiting: int) -> Job:
    """Queues preference tuning of a model on votes.

    Args:
        jobs: The queue; the pairs are written into its folder.
        votes: On the model.
        base: What the model is called.
        place: Where it lies.
        most_waiting: Jobs that may wait.

    Raises:
        InputError: the votes are too few or say nothing, or the queue is full; nothing is left behind then.
    """
    waiting = len(jobs.list(states=["queued"], limit=most_waiting))
    if waiting >= most_waiting:
        raise InputError(f"{waiting} jobs wait already, which is all that may: come again later")
    written = write_pairs(votes, jobs.folder)
    try:
        read_preference_splits(str(written.path))
        details = {"model": base, "method": {"type": "dpo"}}
        return jobs.add("dpo", {"base": place, "data": str(written.path)}, name="votes", details=details)
    except InputError as error:
        written.path.unlink()
        raise InputError(str(error).replace(f"{written.path}: ", "votes: ")) from None

"""Votes survive a kill, count as worked out by hand, and become pairs that preference tuning reads."""

import json
import os
import signal
from collections import Counter
from typing import Any

import pytest
from scipy.stats import binomtest

from configs import InputError
from finetune.conversations.pairs import read_pairs
from finetune.runs.job_store import JobStore
from finetune.studio.ballot import CHOICES, Asked, Ballot, first_shown, next_question
from finetune.studio.vote_figures import figures_of_pairs
from finetune.studio.vote_pairs import queue_preference_run, write_pairs
from finetune.votes import VoteBook
from scratch_models.decoding.sampling_settings import Sampling


def ballot(prompt: str = "1+1?", replies=("2", "It is 2."), models=("base", "run"), **more) -> Ballot:
    asked = Asked(
        prompt=prompt,
        models=models,
        proofs=("sha256 1", "sha256 2"),
        prompt_format="auto",
        sampling=Sampling(temperature=0.7, seed=3),
        most_tokens=9,
        replies=replies,
    )
    return Ballot(asked, **more)


def won_by(number: int, **more):
    """A vote that one of the two models won."""
    found = ballot(**more)
    return found.cast("a" if first_shown(found.shuffle_seed) == number else "b")


def _vote_until_killed(folder, said):
    """Casts votes and says each one that was kept."""
    book = VoteBook(folder)
    for number in range(10_000):
        os.write(said, f"{book.add(ballot(f'question {number}').cast('a')).id}\n".encode())


def test_no_vote_that_was_kept_is_lost_where_the_process_is_killed(tmp_path):
    reading, writing = os.pipe()
    if (voter := os.fork()) == 0:
        try:
            _vote_until_killed(tmp_path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as heard:
        said = [heard.readline().strip() for _ in range(20)]
        os.kill(voter, signal.SIGKILL)
        said += [line.strip() for line in heard if line.endswith("\n")]
    assert os.WTERMSIG(os.waitpid(voter, 0)[1]) == signal.SIGKILL
    kept = VoteBook(tmp_path).all()
    assert [vote.id for vote in kept][: len(said)] == said and len(kept) <= len(said) + 1
    assert kept[0].asked == ballot("question 0").asked
    assert VoteBook(tmp_path).add(ballot().cast("tie")).choice == "tie"


def test_a_ballot_counts_once_and_its_sides_are_placed_by_a_generator_of_their_own(tmp_path):
    book, one = VoteBook(tmp_path), ballot()
    kept = book.add(one.cast("a"))
    with pytest.raises(InputError, match="cast already"):
        book.add(one.cast("b"))
    (read,) = book.all()
    assert read == kept and read.winner is not None and read.asked.models[read.winner] == one.names[0]
    placed = Counter(ballot().names[0] for _ in range(400))
    assert binomtest(placed["base"], 400).pvalue > 1e-6
    assert one.shown == tuple(one.asked.replies[one.asked.models.index(name)] for name in one.names)
    with pytest.raises(InputError, match="nothing to choose between"):
        ballot(replies=("2", "2")).cast("a")
    with pytest.raises(InputError, match="expected one of a, b, tie, both bad"):
        one.cast("c")


def test_win_rate_interval_and_length_bias_are_those_worked_out_by_hand():
    # The run wins 3 of which 2 are the longer reply; the base 1, the longer one; a tie and a both bad.
    run_longer: dict[str, Any] = {"replies": ("22", "4444")}
    base_longer: dict[str, Any] = {"replies": ("666666", "22")}
    votes = [won_by(1, **run_longer), won_by(1, **run_longer), won_by(1, **base_longer), won_by(0, **base_longer)]
    votes += [ballot(**run_longer).cast("tie"), ballot(models=("run", "base"), replies=("22", "4444")).cast("both bad")]
    (found,) = figures_of_pairs(votes)
    assert (found.models, found.wins, found.ties, found.both_bad, found.votes) == (("base", "run"), (1, 3), 1, 1, 6)
    assert found.share == 2 / 6
    expected = binomtest(2, 6).proportion_ci(method="wilson")
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert (found.longer_won, found.decided) == (3, 4)
    assert found.mean_lengths == pytest.approx(((2 + 2 + 6 + 6 + 2 + 4) / 6, (4 + 4 + 2 + 2 + 4 + 2) / 6))


def test_votes_are_exported_as_pairs_that_preference_tuning_reads(tmp_path):
    votes = [won_by(1, prompt="a?"), won_by(0, prompt="b?"), ballot().cast("tie"), ballot().cast("both bad")]
    written = write_pairs(votes, tmp_path)
    assert written.pairs == 2 and written.left_out == {"ties": 1, "both bad": 1}
    first, second = read_pairs(str(written.path))
    assert (first.prompt[0].content, first.chosen[0].content, first.rejected[0].content) == ("a?", "It is 2.", "2")
    assert second.chosen[0].content == "2"
    assert json.loads(written.path.read_text().splitlines()[0])["chosen_model"] == "run"
    with pytest.raises(InputError, match="found 1 ties"):
        write_pairs(votes[2:3], tmp_path)


def test_a_preference_run_on_the_votes_is_queued_or_refused_with_nothing_left(tmp_path):
    jobs = JobStore(tmp_path)
    few = [won_by(1, prompt=f"What is {number}?") for number in range(3)]
    with pytest.raises(InputError, match=r"3 different prompts .* too few, expected at least 20"):
        queue_preference_run(jobs, few, base="run", place="embedded", most_waiting=2)
    assert jobs.list() == [] and list((tmp_path / "votes").iterdir()) == []
    things = ["apple", "house", "river", "stone", "cloud", "tiger", "table", "paper", "engine", "window"]
    many = [won_by(1, prompt=f"Which colour has the {one} of {other}?") for one in things for other in things[:3]]
    job = queue_preference_run(jobs, many, base="run", place="embedded", most_waiting=2)
    assert (job.kind, job.state, job.settings["base"]) == ("dpo", "queued", "embedded")
    assert len(read_pairs(job.settings["data"])) == 30
    with pytest.raises(InputError, match="1 jobs wait already"):
        queue_preference_run(jobs, many, base="run", place="embedded", most_waiting=1)


def test_the_next_question_is_the_first_that_is_not_done_with():
    assert next_question(" a? \n\nb?", {"a?"}) == "b?"
    with pytest.raises(InputError, match="all 2 have a vote"):
        next_question("a?\nb?", {"a?", "b?"})
    assert len(CHOICES) == 4

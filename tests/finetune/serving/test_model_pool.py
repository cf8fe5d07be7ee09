"""Several adapters and their base in one batch: every reply is the one that its model gives alone."""

import math
import threading
import time

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from configs import InputError
from finetune.export.opened_sides import open_local
from finetune.serving.model_pool import ModelPool
from finetune.serving.reply_request import Ended, Full, Piece
from finetune.serving.request_queue import BatchLimits
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.serving.served import GREEDY, known_texts, prompts, request, save_models, whole
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

NEW = 24
ASKED = prompts(6, 320)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def known(models):
    return {name: known_texts(name, ASKED, NEW) for name in models}


@pytest.fixture
def pool():
    pool = ModelPool(limits=BatchLimits(rows=8, prompt_ids_at_once=16))
    yield pool
    pool.close()


def test_adapters_and_their_base_answer_in_one_batch_as_each_does_alone(models, known, pool):
    streams = [(name, n, pool.ask(name, request(ASKED[n], NEW))) for n in range(len(ASKED)) for name in models]
    assert all(whole(list(stream)) == known[name][n] for name, n, stream in streams)
    assert len({texts[0] for texts in known.values()}) == len(models)  # each says something else
    state = pool.state()
    assert [batch.counts.replies for batch in state.batches] == [len(streams)]
    assert sorted(model.is_adapter for model in state.models) == [False, True, True, True]


def test_a_row_that_samples_gets_the_noise_of_its_own_seed_and_choice(models, pool):
    sampling = Sampling(temperature=0.9, top_p=0.95, seed=3)
    asked = request(ASKED[0], NEW, sampling, choices=3)
    streams = [pool.ask(models[1], asked), pool.ask(models[1], request(ASKED[1], NEW)), pool.ask(models[1], asked)]
    first, _, again = [list(stream) for stream in streams]
    assert whole(first) == known_texts(models[1], ASKED[:1], NEW, sampling)[0]
    assert [whole(first, n) for n in range(3)] == [whole(again, n) for n in range(3)]
    assert len({whole(first, n) for n in range(3)}) == 3


def test_logprobs_are_those_of_the_models_own_logits(models, pool):
    events = list(pool.ask(models[2], request(ASKED[2], 5, Sampling(temperature=0.7), logprobs=3)))
    tokens = [token for event in events if isinstance(event, Piece) for token in event.tokens]
    side = open_local(models[2])
    ids_of_bytes = {tuple(token): id_ for id_, token in token_bytes(side.tokenizer).items()}
    ids = list(ASKED[2])
    for token in tokens:
        with torch.inference_mode():
            expected = side.model(torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1)
        assert math.isclose(token.top[0].logprob, float(expected.max()), abs_tol=1e-4)
        assert [one.logprob for one in token.top] == sorted([one.logprob for one in token.top], reverse=True)
        ids.append(ids_of_bytes[token.bytes])
        assert math.isclose(token.logprob, float(expected[ids[-1]]), abs_tol=1e-4)
    assert len(tokens) == 5


def test_a_reply_ends_at_a_stop_id_or_a_stop_text_or_its_length(models, known, pool):
    whole_text = known[models[0]][0]
    stop = whole_text[3:6]
    by_text = list(pool.ask(models[0], request(ASKED[0], NEW, stop_texts=(stop,))))
    assert whole(by_text) == whole_text[: whole_text.index(stop)]
    by_length = list(pool.ask(models[0], request(ASKED[0], NEW)))
    assert by_length[-1] == Ended(0, "length", NEW, len(ASKED[0])) and isinstance(by_text[-1], Ended)
    side = open_local(models[0])
    first_id = int(side.model(torch.tensor([ASKED[0]])).logits[0, -1].argmax())
    by_id = list(pool.ask(models[0], request(ASKED[0], NEW, stop_ids=(first_id,))))
    assert by_id == [Ended(0, "stop", 1, len(ASKED[0]))]
    positions = side.model.config.n_positions
    assert list(pool.ask(models[0], request([1] * (positions - 2), NEW)))[-1] == Ended(0, "length", 2, positions - 2)


def test_whoever_leaves_frees_the_row_before_the_next_id(models, pool):
    pool.open(models[0]).result()
    stream = pool.ask(models[0], request([5], 90))
    next(stream)
    stream.close()
    began = time.monotonic()
    while pool.state().batches[0].rows:
        assert time.monotonic() - began < 1
        time.sleep(0.002)
    counts = pool.state().batches[0].counts
    assert counts.left == 1 and counts.tokens < 90


def test_a_full_queue_refuses_at_once_with_words(models):
    pool = ModelPool(limits=BatchLimits(rows=1, waiting=2))
    try:
        pool.open(models[0]).result()
        streams = []
        with pytest.raises(Full, match=r"requests wait, and no more may: come again in \d+ s"):
            for _ in range(40):
                began = time.monotonic()
                streams.append(pool.ask(models[0], request([5], 90)))
        assert time.monotonic() - began < 0.3
        assert len({whole(list(stream)) for stream in streams}) == 1  # nobody in the queue is lost
    finally:
        pool.close()


def test_models_that_nobody_asks_leave_memory_and_come_back(models, known):
    pool = ModelPool(idle_seconds=0.2, kept=[models[0]])
    try:
        for _ in range(2):
            assert whole(list(pool.ask(models[1], request(ASKED[0], NEW)))) == known[models[1]][0]
            pool.open(models[0]).result()
            began = time.monotonic()
            while [model.name for model in pool.state().models] != [models[0]]:
                assert time.monotonic() - began < 5
                time.sleep(0.05)
        assert len(pool.state().batches) == 1
    finally:
        pool.close()


def test_bad_names_and_bad_requests_are_refused_in_one_line(models, pool):
    with pytest.raises(InputError, match="no such folder"):
        pool.ask("nowhere/at/all/there", request([1], 1))
    assert [model.state for model in pool.state().models] == ["failed"]
    with pytest.raises(InputError, match="found the id 400"):
        pool.ask(models[0], request([1, 400], 1))
    with pytest.raises(InputError, match="positions"):
        pool.ask(models[0], request([1] * 96, 1))
    with pytest.raises(InputError, match="choices is 9"):
        pool.ask(models[0], request([1], 1, choices=9))
    with pytest.raises(InputError, match="no chat format"):
        pool.chat_format(models[0])


def test_a_model_without_parts_answers_one_batch_after_another_and_says_so(models, tmp_path, pool):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    config = GPTNeoXConfig(vocab_size=320, max_position_embeddings=96, initializer_range=0.3, **shape)
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    open_local(models[0]).tokenizer.save_pretrained(tmp_path)
    streams = [pool.ask(str(tmp_path), request(prompt, NEW)) for prompt in ASKED]
    assert [whole(list(stream)) for stream in streams] == known_texts(str(tmp_path), ASKED, NEW)
    assert "one batch after another" in pool.state().models[0].note


def test_what_was_never_written_is_never_read(models, known, pool):
    """Torch fills memory that it does not initialise with NaN while its algorithms are to be deterministic.

    https://docs.pytorch.org/docs/stable/deterministic.html#torch.utils.deterministic.fill_uninitialized_memory
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        streams = [(n, pool.ask(models[1], request(ASKED[n], NEW))) for n in range(len(ASKED))]
        assert all(whole(list(stream)) == known[models[1]][n] for n, stream in streams)
    finally:
        torch.use_deterministic_algorithms(False)


def test_clients_come_and_go_over_several_adapters_and_none_is_lost_or_mixed(models, known, pool):
    """Some leave in the middle, as at random."""
    wrong, left, done = [], [], []

    def client(number: int) -> None:
        for turn in range(12):
            name, asked = models[(number + turn) % len(models)], (number * 5 + turn) % len(ASKED)
            stream = pool.ask(name, request(ASKED[asked], NEW, GREEDY))
            if (number + turn) % 10 == 0:
                next(stream)
                stream.close()
                left.append(number)
            elif whole(list(stream)) != known[name][asked]:
                wrong.append((number, turn))
            else:
                done.append(number)

    threads = [threading.Thread(target=client, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(done) + len(left) == 16 * 12

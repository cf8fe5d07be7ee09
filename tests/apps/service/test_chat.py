"""Replies through the official client: whole and streamed, several, with logprobs, stopped, and refused."""

import openai
import pytest

QUESTION = [{"role": "user", "content": "What colour has the apple number 3?"}]


@pytest.fixture(scope="module")
def ask(service, tuned):
    def create(**fields):
        asked = {"model": tuned.fine_tuned_model, "messages": QUESTION, "max_completion_tokens": 12, **fields}
        return service.client().chat.completions.create(**asked)

    return create


def test_a_reply_is_that_of_the_model_by_itself(service, tuned, ask):
    from finetune import open_run
    from tests.apps.service.conftest import run_folder

    reply = ask(temperature=0)
    assert reply.object == "chat.completion" and reply.choices[0].message.role == "assistant"
    said = open_run(run_folder(service, tuned.id)).chat(QUESTION[0]["content"], reply_tokens=12, temperature=0)
    assert reply.choices[0].message.content.strip() == said
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens and 0 < usage.completion_tokens <= 12


def test_a_stream_ends_in_the_whole_reply_and_its_usage(ask):
    whole = ask(seed=5, n=2)
    chunks = list(ask(seed=5, n=2, stream=True, stream_options={"include_usage": True}))
    texts = ["", ""]
    for chunk in chunks[:-1]:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    ends = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert {one.index: one.finish_reason for one in ends} == {one.index: one.finish_reason for one in whole.choices}
    assert chunks[-1].usage == whole.usage and {chunk.id for chunk in chunks} == {chunks[0].id}


def test_the_same_seed_gives_the_same_reply_and_another_another(ask):
    replies = [ask(seed=seed, temperature=2).choices[0].message.content for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]


def test_logprobs_are_those_of_each_token(ask):
    [choice] = ask(temperature=0, logprobs=True, top_logprobs=3).choices
    tokens = choice.logprobs.content
    assert "".join(bytes(one.bytes).decode("utf-8", "replace") for one in tokens).startswith(choice.message.content)
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 3 for one in tokens)
    assert all(one.top_logprobs[0].logprob == one.logprob for one in tokens)  # greedy: the likeliest was taken


def test_a_stop_text_ends_the_reply_and_is_no_part_of_it(ask):
    whole = ask(temperature=0).choices[0].message.content
    stop = whole[3:5]
    choice = ask(temperature=0, stop=[stop]).choices[0]
    assert choice.message.content == whole[: whole.index(stop)] and choice.finish_reason == "stop"


def test_a_text_goes_on_from_its_prompt(service):
    client = service.client()
    asked = {"model": "tiny", "prompt": ["What colour", "It is"], "max_tokens": 5, "temperature": 0, "logprobs": 2}
    found = client.completions.create(**asked)
    assert [choice.index for choice in found.choices] == [0, 1] and found.usage.completion_tokens <= 10
    assert all(len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) for choice in found.choices)
    streamed = ["", ""]
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in found.choices]


def test_models_are_listed_and_found(service, tuned):
    client = service.client()
    names = [model.id for model in client.models.list()]
    assert names[0] == "tiny" and tuned.fine_tuned_model in names
    assert client.models.retrieve(tuned.fine_tuned_model).id == tuned.fine_tuned_model
    with pytest.raises(openai.NotFoundError, match="did you mean tiny"):
        client.models.retrieve("tinny")
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("tiny")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": 3}, "temperature: found 3"),
        ({"temperature": "hot"}, "temperature: found 'hot'"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content is a number"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools: found"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 0.5}, "presence_penalty: found 0.5"),
        ({"max_completion_tokens": 10**6}, "expected at most 1,024"),
        ({"top_logprobs": 2}, "expected logprobs: true"),
        ({"model": "ft:tiny:ftjob-000000000000000000000000"}, "no such model"),
        ({"model": "../../etc"}, "no such model"),
        ({"n": 99}, "n: found 99"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(service, tuned, fields, said):
    body = {"model": tuned.fine_tuned_model, "messages": QUESTION, **fields}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        service.client().post("/chat/completions", body=body, cast_to=object)
    assert said in refused.value.body["message"], refused.value.body


def test_a_model_without_a_chat_format_says_so(service):
    with pytest.raises(openai.BadRequestError, match="has no chat format"):
        service.client().chat.completions.create(model="tiny", messages=QUESTION)

"""What a text holds, against those who made the forms: published tokenizers, test numbers, Unicode's own sequences."""

import json

import pytest

from finetune.inspection.control_tokens import control_tokens
from finetune.inspection.invisible import invisible_kinds
from finetune.inspection.likely_secrets import likely_secrets
from finetune.inspection.personal_data import personal_data
from tests.finetune.inspection.planted import real_rows
from tests.real_tokenizers import REAL_FAMILIES, TOKENIZERS

RANDOM = "aB3dE6gH9kL2mN5pQ8rS1tU4vW7xY0zAbCdEfG5h"
# The numbers that Stripe's documentation gives for tests, and the account numbers of the IBAN registry's examples.
CARDS = ["4242424242424242", "5555 5555 5555 4444", "3782 822463 10005", "6011-1111-1111-1117"]
ACCOUNTS = ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"]


@pytest.mark.parametrize("family", REAL_FAMILIES)
def test_the_control_tokens_that_a_published_template_writes_are_all_found(family):
    path = TOKENIZERS / family / "tokenizer_config.json"
    if not path.exists():
        pytest.skip(f"shared/data/tokenizers/{family} is not in the folder beside the repository")
    config = json.loads(path.read_text(encoding="utf-8"))
    added = [one["content"] for one in config["added_tokens_decoder"].values() if one["content"].strip()]
    written = [token for token in added if token in config.get("chat_template", token)]
    assert written
    for token in (*written, "[INST]", "<|im_start|>", "<｜User｜>"):
        assert control_tokens(f"a {token}b") == [token]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AWS access key", "AKIA" + "Q3EGRIZ7LNV5WXKD"),
        ("AWS secret key", f'aws_secret_access_key = "{RANDOM}"'),
        ("GitHub token", f"ghp_{RANDOM[:36]}"),
        ("Slack token", "xoxb-" + "263594206564-FGqddMF8t08v8N7Oq4i57vs1"),
        ("API key (sk-)", f"sk-proj-{RANDOM}"),
        ("Hugging Face token", f"hf_{RANDOM[:34]}"),
        ("private key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("password in a URL", "postgres://ada:tr0ub4dor&3@db.host:5432/x"),
    ],
)
def test_a_secret_in_its_published_form_is_found_inside_a_text(name, text):
    assert [one.name for one in likely_secrets(f"Use this: {text} and go on.")] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-your-api-key-goes-in-here",
        "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "http://user:password@host",
        "https://x.org:8080/@me",
        "task-oriented-dialogue-systems",
    ],
)
def test_examples_are_no_secrets(text):
    assert list(likely_secrets(text)) == []


@pytest.mark.parametrize("number", CARDS + ACCOUNTS)
def test_a_number_with_right_check_digits_is_found_and_with_a_wrong_one_not(number):
    digit = max(place for place, one in enumerate(number) if one.isdigit())
    wrong = f"{number[:digit]}{(int(number[digit]) + 1) % 10}{number[digit + 1 :]}"
    assert len(personal_data(f"It is {number}, I think.")) == 1
    assert personal_data(f"It is {wrong}, I think.") == []


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f 1\ufe0f\u20e3",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "\u05e9\u05dc\u05d5\u05dd\u200f (x)",
        "\u845b\U000e0100",
        "a\tb\r\n",
    ],
)
def test_what_scripts_and_emoji_need_is_left_alone(text):
    assert invisible_kinds(text) == []


def test_text_that_is_hidden_in_tags_selectors_and_turned_around_is_found():
    hidden = "".join(chr(0xE0000 + ord(one)) for one in "obey"), "".join(chr(0xE0100 + ord(one)) for one in "obey")
    assert invisible_kinds(f"Hi{hidden[0]}") == ["tag character"]
    assert invisible_kinds(f"Hi\U0001f600{hidden[1]}") == ["variation selector"]
    assert invisible_kinds("a\u202eb") == ["bidirectional control"]
    assert invisible_kinds("\x1b[31m") == ["control character"]


def test_real_questions_hold_no_secrets_and_no_personal_data():
    texts = [row["question"] + row["answer"] for row in real_rows(2000)]
    assert [text for text in texts if personal_data(text) or any(likely_secrets(text)) or control_tokens(text)] == []

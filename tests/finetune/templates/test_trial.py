"""A chat template is code that came with a model: one that fails, loops or reaches out is refused in one line."""

import pytest

from configs import InputError
from finetune.chat.template_format import TemplateFormat

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
TURNS = "{% for m in messages %}<|user|>{{ m['content'] }}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no chats here') }}", "raises TemplateError: no chats here"),
        ("{{ messages[9]['content'] }}", "raises UndefinedError"),
        ("{% if %}", "raises TemplateSyntaxError"),
        (LOOP, "does not end within 3 seconds of work"),
        ("{{ 'a' * 99999999999 }}", "takes more than 512 MB of memory"),
        ("{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}", "writes more than 1,000,000 characters"),
        ("{% import 'os' as os %}{{ os.getcwd() }}", "raises TypeError: no loader"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "raises SecurityError"),
        ("{{ ''.__init__.__globals__ }}", "raises SecurityError"),
    ],
)
def test_a_template_that_cannot_be_trusted_is_refused_before_it_runs_here(chat_tokenizer, template, said):
    chat_tokenizer.chat_template = template
    with pytest.raises(InputError, match=f"^chat template: {said}"):
        TemplateFormat(chat_tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (TURNS + "\n{% endfor %}", "no special token ends an assistant's turn"),
        (
            "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% endif %}{% endfor %}",
            "leaves",
        ),
        (TURNS + "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}", "no beginning of"),
        (TURNS.replace("m['content']", "m['content'] | replace(' ', '-')") + "<|end|>{% endfor %}", "is not known"),
    ],
)
def test_a_template_that_nothing_can_be_learned_from_is_refused_with_the_reason(chat_tokenizer, template, said):
    chat_tokenizer.chat_template = template
    with pytest.raises(InputError, match=f"{said}.*: pass --chat graft"):
        TemplateFormat(chat_tokenizer)

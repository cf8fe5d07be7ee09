"""Every kind of page that the project writes, held to axe-core's rules in a real browser, in light and in the dark."""

import sys
from collections.abc import Callable
from pathlib import Path

import axe_playwright_python
import pytest

from configs import run_entry
from finetune.chat.graft_format import GraftFormat
from finetune.chat.mask_page import mask_as_html
from finetune.conversations.messages import Conversation, Message
from finetune.evaluation import report as supervised
from finetune.evaluation.tables import SampleReplies
from finetune.preference import report as preference
from finetune.pretraining import report as pretraining
from finetune.red_teaming import report as red_teaming
from finetune.red_teaming.attacks import fixed_attacks
from finetune.red_teaming.judging import judge
from finetune.red_teaming.measured import Attacked
from scratch_models.look import LookSettings, main
from tests.apps.tiny_models import varied_model
from tests.finetune.evaluation.test_report import make_report
from tests.scratch_models.test_look import saved
from tests.scratch_models.test_sample import character_gpt
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.inspection.audit import audit_tokens
from tokenizer_ext.inspection.audit_report import to_html as audit_to_html

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SERIOUS = """async () => (await axe.run({resultTypes: ['violations']})).violations
    .filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)])"""
REPLIES = tuple(SampleReplies(f"What does f{n} do?", "It returns f.", "It sums.", "A sum.") for n in range(20))
CORPUS = [f"torch.nn.functional.softmax of tensor {n} along a dimension" for n in range(40)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, plain_tokenizer, chat_tokenizer) -> dict[str, Callable[[], str]]:
    """What makes each page."""

    def look() -> str:
        folder = tmp_path_factory.mktemp("look")
        checkpoint = saved(character_gpt, folder / "run" / "final")
        arguments = ["--checkpoint", checkpoint, "--prompt", "a bad", "--direction", "a - b + c"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["look", *arguments, "--output_dir", str(folder / "look")])
            run_entry(main, LookSettings)
        return (folder / "look" / "look.html").read_text(encoding="utf-8")

    def extension() -> str:
        model = varied_model(len(plain_tokenizer))
        extended = extend_vocabulary((model, plain_tokenizer), corpus=CORPUS, new_tokens=8)
        return (extended.save(tmp_path_factory.mktemp("extended") / "model") / "report.html").read_text(
            encoding="utf-8"
        )

    def mask() -> str:
        chat = GraftFormat(chat_tokenizer)
        said = (Message("user", "1+1?"), Message("assistant", "It is 2."))
        return mask_as_html(chat.render(Conversation(said, "p")), chat, "What is learned")

    return {
        "sft": lambda: supervised.to_html(make_report(samples=REPLIES)),
        "dpo": lambda: preference.to_html(_preference()),
        "pretrain": lambda: pretraining.to_html(_pretraining()),
        "red_team": _attacked,
        "mask": mask,
        "look": look,
        "extension": extension,
        "audit": lambda: audit_to_html(audit_tokens(varied_model(len(plain_tokenizer)), plain_tokenizer), "tiny"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("sft", "look"),
        *(
            pytest.param(kind, marks=pytest.mark.long)
            for kind in ("mask", "extension", "dpo", "pretrain", "red_team", "audit")
        ),
    ],
)
def test_a_page_breaks_no_serious_rule_in_light_or_dark(browser, pages, kind, tmp_path):
    (tmp_path / "page.html").write_text(pages[kind](), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.goto(f"file://{tmp_path}/page.html")
    page.add_script_tag(path=AXE)
    found = {"light": page.evaluate(SERIOUS)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = page.evaluate(SERIOUS)
    page.close()
    assert found == {"light": [], "dark": []}


def _preference() -> preference.PreferenceReport:
    names = ("held_out_reward_accuracy", "held_out_reward_margin", "held_out_chosen_reward", "held_out_rejected_reward")
    metrics = [
        {"step": step, "loss_nats": 1 / step, "held_out_loss_nats": 1 / step} | dict.fromkeys(names, step / 9)
        for step in range(1, 9)
    ]
    fields = {name: value for name, value in vars(make_report(samples=REPLIES)).items() if name != "metrics"}
    return preference.PreferenceReport(
        **fields,
        metrics=tuple(metrics),
        pairs=9,
        held_out=dict.fromkeys(names, 0.5),
        likelier=(0.5, 0.75),
        rejected=("no",) * len(REPLIES),
    )


def _pretraining() -> pretraining.PretrainReport:
    text = pretraining.TextFigures(
        name="domain", share=0.7, held_out_bytes=9, bits_per_byte_before=1.5, bits_per_byte_after=1.25
    )
    said = pretraining.Continuation(text="domain", prompt="The", before="a", after="b", expected="c")
    metrics = tuple({"step": step, "loss_nats": 2 / step} for step in range(1, 9))
    return pretraining.PretrainReport(
        title="pretrain-1", texts=(text,), samples=(said,) * 20, facts={"base": "gpt2"}, metrics=metrics
    )


def _attacked() -> str:
    attacks = fixed_attacks(seed=0)
    judged = [judge(one, "I will not.") for one in attacks]
    return red_teaming.to_html(Attacked(attacks, judged, judged, left_out=1), {"base": "gpt2"})

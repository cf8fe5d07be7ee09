"""The end of a run: the proof that no old weight moved, the saved model as transformers opens it, the delta."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from configs import InputError
from configs.manifest import sealed_folder
from finetune.export.base_on_disk import base_on_disk
from finetune.export.model_card import OPEN_MODEL, PATHS, Comparison, Form, public_name, write_model_card
from finetune.gisting.gist_tokens import GistModel
from finetune.gisting.questions import Question
from finetune.gisting.report import GistReport, to_markdown
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.embeddings.saved_weights import LIMIT, reopen
from tokenizer_ext.embeddings.tables import fold
from tokenizer_ext.encoders.spm_model import save_with_model_file
from tokenizer_ext.extension.certificate import WeightHashes, hash_weights, write_certificate
from tokenizer_ext.extension.delta import save_delta
from tokenizer_ext.pages.progress import shown

DELTA = "delta"
"""The folder of a run that holds its new rows alone."""
PROVED = 4
"""Held-out questions whose ids and logits are compared once the folder is opened again."""
OPENING = (
    "A model with {number} control tokens that stand for a prompt of {prompt_tokens:,} tokens: {tokens}. Every weight "
    "but their rows is the base's, bit for bit: `certificate.json` has the hashes. They stand where the prompt stood, "
    "in {place}; `suppress_tokens` of the generation config keeps them out of replies."
)
REPLY = """reply = model.generate(**inputs, max_new_tokens=96)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(reply, skip_special_tokens=True))"""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What a saved folder has to give again."""

    questions: list[Question]
    ids: list[list[int]]
    logits: list[Tensor]
    """Of each last place, (V + N)."""


def finish(
    gist: GistModel, before: WeightHashes, questions: Sequence[Question], report: GistReport, base: str, run: RunFolder
) -> None:
    """Folds the rows back, proves what stayed, and saves `final/` and `delta/`."""
    fold(gist.model)
    first = gist.extended.first_new_id
    assert before == hash_weights(gist.model, first), "an old weight moved"
    suppress(gist.model, gist.gist)
    proof = make_proof(gist, questions)
    save_whole(gist, proof, report, base, run.final)
    save_delta(gist.model, gist.extended.tokenizer, first, run.path / DELTA)


def suppress(model: PreTrainedModel, gist: Mapping[str, int]) -> None:
    """Has transformers never generate the tokens, whatever is said to it."""
    config = model.generation_config
    assert config is not None
    config.suppress_tokens = sorted({*(config.suppress_tokens or ()), *gist.values()})


@torch.no_grad()
def make_proof(gist: GistModel, questions: Sequence[Question]) -> Proof:
    """The ids of some questions, and the logits of the folded model behind them.

    A question that holds the letters of a control token is none of them: transformers would make the token of it.
    """
    tokenizer = gist.extended.tokenizer
    plain = [
        one
        for one in questions
        if not any(token in said.content for said in one.messages for token in tokenizer.get_added_vocab())
    ][:PROVED]
    ids = [gist.form.after_gist(one.messages) for one in plain]
    return Proof(plain, ids, [_last_logits(gist.model, one) for one in ids])


@shown("saving")
def save_whole(gist: GistModel, proof: Proof, report: GistReport, base: str, final: Path) -> None:
    """Writes `final/`, a plain Hugging Face folder in the type of the base, complete or not at all.

    Raises:
        InputError: opened again it is another model, or gives other ids.

    """
    model, tokenizer, first = gist.model, gist.extended.tokenizer, gist.extended.first_new_id
    origin = base_on_disk(model)
    if origin is not None:
        model.to(origin.stored_as)
    with sealed_folder(final, needed=model.get_memory_footprint()) as partial:
        model.save_pretrained(partial)
        save_with_model_file(tokenizer, partial)
        weights = hash_weights(reopen(partial, model, tokenizer, logits=False), first)
        check_proof(gist, proof, partial)
        certificate = dataclasses.replace(gist.extended.certificate, weights_after=weights, reopened=True)
        write_certificate(certificate, partial)
        _write_card(gist, report, base, partial)


@torch.no_grad()
def check_proof(gist: GistModel, proof: Proof, folder: Path) -> None:
    """Opens a folder by transformers alone, and holds it to the ids and logits of the model that was trained.

    Raises:
        InputError: they are others.

    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for question, ids, logits in zip(proof.questions, proof.ids, proof.logits, strict=True):
        if gist.form.in_transformers(tokenizer, question.messages) != ids:
            raise InputError(f"{question.source}: transformers gives other ids once it is read back: nothing is kept")
        difference = float((_last_logits(model, ids) - logits).abs().max())
        if not difference <= LIMIT * max(1.0, float(logits.abs().max())):
            raise InputError(f"logits differ by {difference:.1e} once the model is read back, so nothing is kept")


def _last_logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    asked = torch.tensor([ids], device=model.device)
    logits: Tensor = model(input_ids=asked, use_cache=False).logits[0, -1].float().cpu()
    return logits


def _write_card(gist: GistModel, report: GistReport, base: str, folder: Path) -> None:
    figures = report.figures
    opening = OPENING.format(
        number=figures.gist_tokens,
        prompt_tokens=figures.prompt_tokens,
        tokens=", ".join(f"`{token}`" for token in gist.gist),
        place=gist.form.place,
    )
    write_model_card(
        folder,
        title=report.title.replace(base, public_name(base)),
        base=base,
        comparison=Comparison(heading="The gist tokens beside the prompt", text=to_markdown(figures)),
        facts={name: said for name, said in report.facts.items() if said != base},
        conversational=gist.form.place != "the beginning of a plain text",
        form=Form(
            library="transformers", opening=opening, usage=f"{OPEN_MODEL}\n{gist.form.usage()}\n{REPLY}", paths=PATHS
        ),
    )

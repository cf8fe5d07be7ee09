"""What an extension did, as a page: the certificate, the growth curve, and every new token with its use."""

from collections.abc import Sequence
from pathlib import Path

from tokenizer_ext.bpe.merge_learning import base_ids
from tokenizer_ext.extension.certificate import Certificate, Rows
from tokenizer_ext.extension.growth_curve import GrowthCurve, rarely_seen
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.extension.report import (
    RARELY,
    alone_sentence,
    curve_rows,
    knee_sentence,
    or_not_measured,
    tokens_line,
    verdict,
)
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.plots import HOW_TO_GET_PLOTS, as_data_uri, can_plot, new_figure
from tokenizer_ext.pages.progress import shown

REPORT = "report.html"


@shown("drawing the report")
def write_report(certificate: Certificate, plan: Plan, folder: Path) -> None:
    """Writes `report.html`: the certificate, the growth curve, and every new token with its use."""
    (folder / REPORT).write_text(to_html(certificate, plan), encoding="utf-8")


def to_html(certificate: Certificate, plan: Plan) -> str:
    """One page that needs nothing beside it: its plot is inside."""
    parts = [
        heading("Certificate"),
        paragraph(f"{tokens_line(certificate)}; {verdict(certificate)}."),
        table(["claim", "found"], claim_rows(certificate), numbers=True),
        table(["sha256", "before", "after"], hash_rows(certificate)),
    ]
    if plan.curve:
        parts += _curve_parts(plan.curve, plan)
    return page(f"{certificate.new_tokens + certificate.control_tokens} new tokens", [*parts, *_token_parts(plan)])


def claim_rows(certificate: Certificate) -> list[tuple[str, str]]:
    """Each claim with its number."""
    encoders, rows, reached = certificate.encoders, certificate.rows, certificate.reached
    before, after = certificate.bytes_per_token_before, certificate.bytes_per_token_after
    texts = f"of {certificate.measured_documents:,}"
    found: list[tuple[str, str]] = [
        ("new tokens that no text reaches", or_not_measured(certificate.unreachable_tokens)),
        ("new tokens reached by their own text", f"{reached.by_own_text:,}"),
        ("new tokens reached by a completed character", f"{reached.by_completed_character:,}"),
        ("new tokens reached by a piece of the corpus", f"{reached.by_corpus_piece:,}"),
        ("old ids moved", or_not_measured(certificate.moved_ids)),
        ("special ids moved", or_not_measured(certificate.moved_special_ids)),
        ("bytes per token", f"{before:.3f} → {after:.3f} ({after / before - 1:+.1%})" if before else "no text"),
        ("documents longer in tokens", f"{certificate.longer_documents:,} {texts}"),
        (
            "texts whose ids are not the base's once new tokens are taken apart",
            or_not_measured(certificate.unlike_base_documents),
        ),
        ("documents held out", f"{certificate.held_out_documents:,}"),
        ("duplicate documents left out", f"{certificate.duplicate_documents:,}"),
        (
            "protected documents whose ids changed",
            f"{certificate.changed_protected_documents:,} of {certificate.protected_documents:,}",
        ),
        ("tokens refused to protect them", or_not_measured(certificate.refused_tokens)),
        (
            "texts with other ids after a reload",
            f"{certificate.unequal_after_reload:,} of {certificate.reloaded_documents:,}",
        ),
        (
            "texts to which tiktoken's encoder and the readable twin, or SentencePiece's rule, give other ids",
            f"{or_not_measured(encoders.unequal_documents)} of {encoders.documents:,}"
            + (f": {encoders.reason}" if encoders.reason else ""),
        ),
    ]
    return found + (_row_claims(rows) if rows else [])


def _row_claims(rows: Rows) -> list[tuple[str, str]]:
    return [
        ("rows", f"{rows.before:,} → {rows.after:,}, {'tied' if rows.tied else 'not tied'}"),
        ("new tokens whose row was padding", f"{rows.padding_used:,}"),
    ]


def hash_rows(certificate: Certificate) -> list[tuple[str, str, str]]:
    """The hashes before and after."""
    before, after, tokenizer = certificate.weights_before, certificate.weights_after, certificate.tokenizer
    rows = [
        ("rows of the base's ids", before.base_rows, after.base_rows),
        ("all other weights", before.other_weights, after.other_weights),
    ]
    return rows + ([("the base's tokenizer", tokenizer.before, tokenizer.after)] if tokenizer else [])


def plot_growth(curve: GrowthCurve) -> str:
    """Bytes per token by new tokens, with the knee, as a data URI."""
    figure = new_figure(height=3.5)
    axes = figure.subplots()
    new_tokens = [point.new_tokens for point in curve.points]
    axes.plot(new_tokens, [point.bytes_per_token for point in curve.points], marker="o", label="held-out text")
    axes.plot(
        [curve.knee.new_tokens],
        [curve.knee.bytes_per_token],
        marker="s",
        markersize=9,
        color="C3",
        label="knee",
        linewidth=0,
    )
    axes.set(xlabel="new tokens", ylabel="bytes per token", title="What each further token gains")
    axes.legend()
    return as_data_uri(figure)


def _curve_parts(curve: GrowthCurve, plan: Plan) -> list[str]:
    plot = (
        image("Bytes per token by new tokens", plot_growth(curve))
        if can_plot()
        else paragraph(f"The plot needs matplotlib: {HOW_TO_GET_PLOTS}")
    )
    return [
        heading("How many tokens are worth it"),
        plot,
        paragraph(knee_sentence(curve) + "."),
        *([paragraph(f"{sentence}.")] if (sentence := alone_sentence(plan)) else []),
        table(
            ["new tokens", "bytes per token", "gain", f"seen fewer than {RARELY} times"],
            curve_rows(curve),
            numbers=True,
        ),
    ]


def _token_parts(plan: Plan) -> list[str]:
    known = token_bytes(plan.base) if plan.tokens else {}  # control tokens are added to families that have no bytes
    uses: Sequence[float] = plan.curve.uses if plan.curve else ()
    rarely = set(rarely_seen(uses, RARELY))
    texts = [merge.token_bytes.decode(errors="backslashreplace") for merge in plan.tokens]
    made_of = [" · ".join(known[id_].decode(errors="backslashreplace") for id_ in ids) for ids in base_ids(plan.tokens)]
    alone: Sequence[int] = plan.curve.held_out_uses if plan.curve and plan.texts.held_out else ()
    rows = [
        (
            repr(text),
            str(merge.token),
            f"{merge.count:,}",
            f"{uses[place]:,.0f}" if uses else "–",
            f"{alone[place]:,}" if alone else "–",
            "rarely" if place in rarely else "",
            parts,
        )
        for place, (merge, text, parts) in enumerate(zip(plan.tokens, texts, made_of, strict=True))
    ]
    ids = plan.tokenizer.get_vocab()
    rows += [(repr(token), str(ids[token]), "", "", "", "", "control token") for token in plan.control_tokens]
    header = ["token", "id", "pairs when learned", "uses in the end", "alone in held-out text", "trained", "made of"]
    under_trained = ", ".join(f"{texts[place]!r} ({uses[place]:,.0f})" for place in sorted(rarely))
    warning = [
        heading("Rows that will be under-trained"),
        paragraph(
            f"{len(rarely)} of {len(plan.tokens)} tokens stand fewer than {RARELY} times in the text that they were "
            "learned from, so one pass over it leaves their rows near their start. One that stands there 0 times is "
            "only a part of longer tokens: they need it, and no text trains it."
        ),
        paragraph(under_trained),
    ]
    return [*(warning if rarely else []), heading("New tokens"), table(header, rows, folded=True)]

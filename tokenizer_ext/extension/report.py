"""What an extension would do and what it did, in words for the terminal."""

from tokenizer_ext.bpe.merge_learning import NewToken
from tokenizer_ext.extension.certificate import Certificate
from tokenizer_ext.extension.growth_curve import GrowthCurve, rarely_seen
from tokenizer_ext.extension.plan import Plan

REOPENED = "the folder was opened again from the disk, and is what was in memory"
ALONE = 5
"""Occurrences in the held-out text, outside longer tokens, below which a token hardly stands on its own."""
NAMED = 12
"""Of those so many are named in a line; the page has all."""
RARELY = 100
"""Occurrences below which a row stays near its start."""


def describe(certificate: Certificate) -> str:
    """The certificate for the terminal; where nothing was added there is nothing to prove but whose the weights are."""
    added = certificate.new_tokens + certificate.control_tokens
    if certificate.rows is not None and not added and certificate.rows.before == certificate.rows.after:
        return f"{certificate.base_tokens} tokens, none added; {weights_line(certificate)}"
    lines = [tokens_line(certificate), _length_line(certificate), _ids_line(certificate)]
    lines += [_protected_line(certificate), _encoders_line(certificate), _rows_line(certificate)]
    lines += [weights_line(certificate), _tokenizer_line(certificate), REOPENED if certificate.reopened else ""]
    return "\n".join([*filter(None, lines), verdict(certificate)])


def verdict(certificate: Certificate) -> str:
    """Whether the certificate holds, and which claims fail."""
    return "certificate holds" if certificate.holds else f"certificate DOES NOT HOLD: {', '.join(certificate.flaws)}"


def weights_line(certificate: Certificate) -> str:
    """What became of the old weights, with the beginnings of their hashes."""
    weights = certificate.weights_after
    same = "unchanged" if certificate.weights_before == weights else "CHANGED"
    if certificate.all_weights_trained:
        same = "trained with the rest"
    return f"old weights {same}: rows sha256 {weights.base_rows[:16]}…, others {weights.other_weights[:16]}…"


def describe_plan(plan: Plan) -> str:
    """What an extension would add, and the growth curve, for the terminal."""
    learned, covered = len(plan.merges) - plan.word_tokens, len(plan.characters)
    texts = plan.texts
    lines = [
        f"would add to {plan.first_new_id} tokens: {f'{covered} characters, ' if covered else ''}"
        f"{plan.word_tokens} for words, {learned} learned, "
        f"{len(plan.control_tokens)} control tokens",
        f"read {len(texts.to_learn):,} documents to learn from, {len(texts.held_out):,} held out, "
        f"{len(texts.protected):,} protected; {texts.duplicates:,} duplicates left out",
    ]
    if plan.refused_tokens is not None:
        lines.append(f"{plan.refused_tokens} tokens would change a protected document and are left out")
    if plan.curve:
        header, *rows = [("new tokens", "bytes per token", "gain", "rarely seen"), *curve_rows(plan.curve)]
        lines += ["".join(f"{cell:>17}" for cell in row) for row in (header, *rows)]
        lines += [knee_sentence(plan.curve), *filter(None, [alone_sentence(plan)])]
    return "\n".join([*lines, "nothing was written: leave --dry_run out to do it"])


def tokens_line(certificate: Certificate) -> str:
    """How many tokens there were, and how many of each kind are new."""
    words, characters = certificate.word_tokens, certificate.character_tokens
    parts = [f"{certificate.base_tokens} tokens"]
    parts += [f"{characters} characters"] if characters else []
    parts += [f"{words} for words"] if words else []
    parts.append(f"{certificate.new_tokens - words - characters} learned")
    return " + ".join([*parts, f"{certificate.control_tokens} control tokens"])


def curve_rows(curve: GrowthCurve) -> list[tuple[str, str, str, str]]:
    """Each point of the curve: new tokens, bytes per token, gain over the base, tokens that are rarely seen."""
    start = curve.points[0].bytes_per_token
    return [
        (
            f"{point.new_tokens:,}{' (knee)' if point == curve.knee else ''}",
            f"{point.bytes_per_token:.3f}",
            f"{point.bytes_per_token / start - 1:+.1%}" if start else "–",
            f"{point.rarely_seen:,}",
        )
        for point in curve.points
    ]


def knee_sentence(curve: GrowthCurve) -> str:
    """Where the growth curve bends, and how many tokens are rarely seen."""
    rare = len(rarely_seen(curve.uses, RARELY))
    return (
        f"knee at {curve.knee.new_tokens:,} tokens: each further one gains less than the average; "
        f"of all {len(curve.uses):,}, {rare:,} are seen fewer than {RARELY} times in the text"
    )


def seldom_alone(plan: Plan) -> list[tuple[NewToken, int]]:
    """The new tokens that the held-out text holds fewer than 5 times outside longer ones, with how often that is."""
    if plan.curve is None or not plan.texts.held_out:
        return []
    return [pair for pair in zip(plan.tokens, plan.curve.held_out_uses, strict=True) if pair[1] < ALONE]


def alone_sentence(plan: Plan) -> str:
    """How many new tokens hardly stand on their own in the held-out text; nothing where there is none."""
    if not plan.texts.held_out:
        return ""
    seldom = seldom_alone(plan)
    never = sum(count == 0 for _, count in seldom)
    shown = [f"{token.token_bytes.decode(errors='backslashreplace')!r} ({count})" for token, count in seldom[:NAMED]]
    named = f": {', '.join(shown)}{', …' if len(seldom) > NAMED else ''}" if shown else ""
    return (
        f"in the held-out text {len(seldom):,} of {len(plan.tokens):,} stand alone fewer than {ALONE} times, "
        f"{never:,} of them never (within longer tokens, or not at all){named}"
    )


def or_not_measured(count: int | None) -> str:
    """The count with its thousands apart; words for one that was not taken."""
    return "not measured" if count is None else f"{count:,}"


def _length_line(certificate: Certificate) -> str:
    before, after = certificate.bytes_per_token_before, certificate.bytes_per_token_after
    if not before:
        return ""  # without a corpus there is nothing to measure on
    held_out = certificate.held_out_documents
    measured = f"{held_out} held-out documents" if held_out else "the corpus itself (too short to hold out)"
    dropped = f"; duplicates left out: {certificate.duplicate_documents}" if certificate.duplicate_documents else ""
    return (
        f"bytes per token on {measured}: {before:.3f} -> {after:.3f} ({after / before - 1:+.1%}); "
        f"longer documents: {certificate.longer_documents}{dropped}"
    )


def _ids_line(certificate: Certificate) -> str:
    old, special = or_not_measured(certificate.moved_ids), or_not_measured(certificate.moved_special_ids)
    unreachable = or_not_measured(certificate.unreachable_tokens)
    return f"old ids moved: {old}; special ids moved: {special}; new tokens that no text reaches: {unreachable}"


def _protected_line(certificate: Certificate) -> str:
    if not certificate.protected_documents:
        return ""
    return (
        f"protected documents changed: {certificate.changed_protected_documents} of {certificate.protected_documents}; "
        f"tokens refused for them: {or_not_measured(certificate.refused_tokens)}"
    )


def _encoders_line(certificate: Certificate) -> str:
    encoders = certificate.encoders
    if not certificate.reloaded_documents:
        return ""
    agreement = (
        f"not compared with another encoder ({encoders.reason})"
        if encoders.unequal_documents is None
        else f"with another encoder: {encoders.unequal_documents} of {encoders.documents}"
    )
    reloaded = f"{certificate.unequal_after_reload} of {certificate.reloaded_documents}"
    model_file = f"; tokenizer.model {encoders.model_file}" if encoders.model_file else ""
    return f"texts with other ids after a reload: {reloaded}; {agreement}{model_file}"


def _rows_line(certificate: Certificate) -> str:
    rows = certificate.rows
    if rows is None:
        return ""
    tied = "tied" if rows.tied else "not tied"
    return f"rows: {rows.before} -> {rows.after}, {rows.padding_used} new tokens in padding, {tied}"


def _tokenizer_line(certificate: Certificate) -> str:
    hashes = certificate.tokenizer
    if hashes is None:
        return ""
    return (
        f"base's tokenizer {'unchanged' if hashes.before == hashes.after else 'CHANGED'}: sha256 {hashes.after[:16]}…"
    )

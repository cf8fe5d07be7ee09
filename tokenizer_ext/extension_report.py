"""What an extension did, for the terminal and as a page."""

from tokenizer_ext.certificate import Certificate


def describe(certificate: Certificate) -> str:
    """The certificate for the terminal."""
    before, after = certificate.bytes_per_token_before, certificate.bytes_per_token_after
    held_out = certificate.held_out_documents
    measured = f"{held_out} held-out documents" if held_out else "the corpus itself (too short to hold out)"
    length = (
        f"bytes per token on {measured}: {before:.3f} -> {after:.3f} ({after / before - 1:+.1%}); "
        f"longer documents: {certificate.longer_documents}\n"
        if before
        else ""  # without a corpus there is nothing to measure on
    )
    weights = certificate.weights_after
    same = "unchanged" if certificate.weights_before == weights else "CHANGED"
    return (
        f"{certificate.base_tokens} tokens + {certificate.new_tokens} learned + "
        f"{certificate.control_tokens} control tokens\n"
        f"{length}old ids moved: {certificate.moved_ids}; new tokens that their text does not reach: "
        f"{certificate.unreachable_tokens}\n"
        f"old weights {same}: rows sha256 {weights.base_rows[:16]}…, others {weights.other_weights[:16]}…\n"
        f"certificate {'holds' if certificate.holds else 'DOES NOT HOLD'}"
    )

"""What a run is made of, as hashes: a run that is resumed must find the same again."""

import hashlib

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.extension.certificate import WeightHashes


def weights_sha256(weights: WeightHashes) -> str:
    """One hash of all weights of a base.

    >>> weights_sha256(WeightHashes(base_rows="aa", other_weights="bb"))[:12]
    '486b34250bd4'
    """
    return hashlib.sha256(f"{weights.base_rows}{weights.other_weights}".encode()).hexdigest()


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """The hash of what `tokenizer.json` would hold."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()

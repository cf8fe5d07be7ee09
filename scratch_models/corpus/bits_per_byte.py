"""Loss per byte of text, which can be compared across vocabularies."""

import math


def bits_per_byte(loss_nats_sum: float, text_bytes: int) -> float:
    """Bits that a model needs per byte of text, from the nats of all targets and the UTF-8 bytes of those same targets.

    Unlike nats per token it can be compared across vocabularies.

    >>> bits_per_byte(loss_nats_sum=100 * math.log(256), text_bytes=100)
    8.0
    """
    return loss_nats_sum / (math.log(2) * text_bytes)

"""Data sets of the Hugging Face Hub by name, and from the cache where there is no network."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from configs import InputError
from configs.errors import first_line
from scratch_models.documents.json_values import without_nulls
from tokenizer_ext.huggingface.hub_names import HubDataset

SPLIT = "train"
SECONDS_TO_REACH_THE_HUB = 3
ADVICE = "a file can be passed instead"


def read_hub(source: HubDataset) -> Iterator[tuple[str, object]]:
    """The rows of a split, by default of ``train``, each with its place.

    Raises:
        InputError: neither the Hub nor the cache has the data set, or it has no such split.

    """
    import datasets

    name, split = source.name, source.split or SPLIT
    unreached: Exception | None = None
    try:
        unreached = _ask(name)
        with _answered_from_the_cache(datasets, unreached is not None):
            rows = datasets.load_dataset(name, source.configuration, split=split)
    except Exception as error:  # whatever the network, the Hub or its files did: the answer is the same
        if str(error).startswith("Unknown split"):
            raise InputError(f"{name}: {first_line(error)} Name one of them, as {name}@SPLIT") from None
        reason = first_line(unreached or error)
        raise InputError(f"{name}: no such file, and not loaded from the Hub ({reason}); {ADVICE}") from None
    if unreached is not None:
        print(f"{name}: read from the cache, the Hub is not reached ({first_line(unreached)})", file=sys.stderr)
    return (
        (f"{name}[{index}]", {key: without_nulls(value) for key, value in row.items()})
        for index, row in enumerate(rows)
    )


def _ask(name: str) -> Exception | None:
    """Why the Hub cannot be reached, None where it can be or is not to be; what it answers is raised.

    `datasets` would try again for half a minute before it says that there is no network; this asks once.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    if huggingface_hub.is_offline_mode():
        return None
    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=SECONDS_TO_REACH_THE_HUB)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return error
    except Exception as error:  # of whichever library it opens connections with
        return error
    return None


@contextmanager
def _answered_from_the_cache(datasets: Any, wanted: bool) -> Iterator[None]:
    """While it lasts, `datasets` asks nobody, nor does it say so over several lines."""
    before, said = datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    datasets.config.HF_HUB_OFFLINE = before or wanted
    if before or wanted:
        datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        datasets.logging.set_verbosity(said)

"""The language that a document is in, by py3langid: its model is in the package, no network is needed.

Chosen over lingua (96 MB), fastText's (archived, and its model is a download) and wrappers of the latter: 5 MB, numpy
alone, BSD-3-Clause, 139 languages, released this year.
"""

from collections.abc import Callable

from configs import InputError

CHARACTERS_READ = 4000
"""Of each document; more tells no better and takes longer."""


def is_in_language(code: str) -> Callable[[str], bool]:
    """A rule that keeps documents whose likeliest language is this one, by its ISO 639-1 code.

    Raises:
        InputError: the detector is not installed, or knows no such language.

    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as missing:
        raise InputError("filters: language needs py3langid: pip install 'graft-lm[filters]'") from missing
    detector = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = sorted(detector.labels)
    if code not in known:
        raise InputError(f"filters: language:{code} is no language that is known, there are {', '.join(known)}")
    return lambda document: detector.classify(document[:CHARACTERS_READ])[0] == code

"""Rules of thumb by which a document is taken for prose, one a function: whether it is kept.

Sources: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", section A.1.1,
for length, symbols and stop words; Penedo et al. 2024, "The FineWeb Datasets", section 3.5, for lines; Raffel et al.
2020, "Exploring the Limits of Transfer Learning" (C4), section 2.2, for markup. Words are what stands between spaces.
"""

import re
import unicodedata

FEWEST_WORDS, MOST_WORDS = 50, 100_000
SHORTEST_MEAN_WORD, LONGEST_MEAN_WORD = 3, 10
MOST_SYMBOLS_PER_WORD = 0.1
MOST_BULLET_LINES, MOST_ELLIPSIS_LINES = 0.9, 0.3
FEWEST_ALPHABETIC_WORDS = 0.8
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
FEWEST_STOP_WORDS = 2
FEWEST_ENDED_LINES = 0.12
MOST_SHORT_LINES, SHORT_LINE_CHARACTERS = 0.67, 30
MOST_CHARACTERS_IN_REPEATED_LINES = 0.1
ELLIPSES, BULLETS = ("...", "…"), ("-", "•", "*")
ENDS_OF_LINES = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？", "।", "؟", "۔")
WORD = re.compile(r"[^\W_]+")


def is_of_length(document: str) -> bool:
    """Whether it has from 50 to 100,000 words, punctuation alone being none.

    >>> is_of_length("one " * 49), is_of_length("one - " * 50)
    (False, True)
    """
    return FEWEST_WORDS <= len(_words(document)) <= MOST_WORDS


def is_words(document: str) -> bool:
    """Whether it is words of usual length more than symbols, bullets and ellipses.

    >>> is_words("Words of the usual kind."), is_words("# # words #"), is_words("9 8 7 six five four")
    (True, False, False)
    """
    words, pieces, lines = _words(document), document.split(), document.splitlines()
    if not words:
        return False
    mean_length = sum(map(len, words)) / len(words)
    hashes = document.count("#") / len(pieces)
    ellipses = sum(map(document.count, ELLIPSES)) / len(pieces)
    alphabetic = sum(any(map(str.isalpha, piece)) for piece in pieces) / len(pieces)
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines) / len(lines)
    trailing = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)
    return (
        SHORTEST_MEAN_WORD <= mean_length <= LONGEST_MEAN_WORD
        and max(hashes, ellipses) <= MOST_SYMBOLS_PER_WORD
        and alphabetic >= FEWEST_ALPHABETIC_WORDS
        and bullets <= MOST_BULLET_LINES
        and trailing <= MOST_ELLIPSIS_LINES
    )


def has_stop_words(document: str) -> bool:
    """Whether two of eight frequent words of English stand in it.

    >>> has_stop_words("The end of it"), has_stop_words("Der Anfang vom Ende")
    (True, False)
    """
    return len(STOP_WORDS.intersection(WORD.findall(document.lower()))) >= FEWEST_STOP_WORDS


def is_prose(document: str) -> bool:
    r"""Whether its lines are those of running text: some end in punctuation, most are long, few stand there twice.

    >>> is_prose("A line that is long enough to be counted.\nAnd another one that ends without a full stop")
    True
    >>> is_prose("Home\nAbout\nContact"), is_prose("A line that is long enough to be counted.\n" * 9)
    (False, False)
    """
    lines = [line for line in document.split("\n") if line.strip()]
    if not lines:
        return False
    ended = sum(line.rstrip().endswith(ENDS_OF_LINES) for line in lines) / len(lines)
    short = sum(len(line) <= SHORT_LINE_CHARACTERS for line in lines) / len(lines)
    repeated = sum(map(len, lines)) - sum(map(len, set(lines)))
    return (
        ended >= FEWEST_ENDED_LINES
        and short <= MOST_SHORT_LINES
        and repeated <= MOST_CHARACTERS_IN_REPEATED_LINES * sum(map(len, lines))
    )


def is_without_markup(document: str) -> bool:
    """Whether it holds neither a curly bracket, which is code, nor the words of an unfilled template.

    >>> is_without_markup("Prose."), is_without_markup("if (x) { y }"), is_without_markup("Lorem ipsum dolor")
    (True, False, False)
    """
    return "{" not in document and "lorem ipsum" not in document.lower()


def _words(document: str) -> list[str]:
    """What stands between spaces and is more than punctuation."""
    return [piece for piece in document.split() if not all(unicodedata.category(one)[0] in "PS" for one in piece)]

"""Likely secrets: keys, tokens and passwords, by the forms that their issuers publish.

Forms: AWS (IAM user guide, "Unique identifiers"), GitHub (docs, "About authentication": prefixes), GitLab (docs, "Token
prefixes"), Slack (docs, "Tokens"), Stripe and OpenAI (API reference), Hugging Face (docs, "User access tokens"), Google
(docs, "API keys"), private keys (RFC 7468), JSON Web Tokens (RFC 7519), passwords in URLs (RFC 3986, 3.2.1). What is
random has a high entropy: `sk-your-key-goes-here` and `AKIAXXXXXXXXXXXXXXXX` are examples, and no secrets.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How the secrets of an issuer look."""

    name: str
    anchors: tuple[str, ...]
    """One of them stands in every such secret: to look for them is fast."""
    pattern: re.Pattern[str]
    least_bits: float = 3.0
    """Entropy of its characters, at least; the secret is the last group."""


FORMS = (
    Form("AWS access key", ("AKIA", "ASIA"), re.compile(r"\b((?:AKIA|ASIA)[A-Z2-7]{16})\b")),
    Form(
        "AWS secret key",
        ("aws_secret", "AWS_SECRET", "SecretAccessKey"),
        re.compile(r"(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY|SecretAccessKey)\W{1,6}([A-Za-z0-9/+]{40})\b"),
        3.8,
    ),
    Form("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36,251})\b")),
    Form("GitHub token", ("github_pat_",), re.compile(r"\b(github_pat_[A-Za-z0-9_]{60,251})\b")),
    Form("GitLab token", ("glpat-",), re.compile(r"\b(glpat-[\w-]{20,})")),
    Form("Slack token", ("xox",), re.compile(r"\b(xox[abeoprs]-[A-Za-z0-9-]{20,})")),
    Form(
        "Slack webhook",
        ("hooks.slack.com/",),
        re.compile(r"hooks\.slack\.com/services/(T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,})"),
    ),
    Form("API key (sk-)", ("sk-",), re.compile(r"\b(sk-[A-Za-z0-9_-]{20,})"), 3.6),
    Form("Hugging Face token", ("hf_",), re.compile(r"\b(hf_[A-Za-z0-9]{30,40})\b"), 3.4),
    Form("Google API key", ("AIza",), re.compile(r"\b(AIza[\w-]{35})(?![\w-])"), 3.4),
    Form("Stripe key", ("_live_",), re.compile(r"\b([sr]k_live_[A-Za-z0-9]{20,})\b")),
    Form("private key", ("PRIVATE KEY-----",), re.compile(r"(-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----)"), 0.0),
    Form("JSON web token", ("eyJ",), re.compile(r"\b(eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"), 3.8),
    Form(
        "password in a URL", ("://",), re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@<>]+:([^\s/@<>{}$*]{4,})@"), 1.5
    ),
)
EXAMPLE = re.compile(r"EXAMPLE|example|xxxx|XXXX|your[_-]|YOUR[_-]|placeholder|1234567890?$|<[a-z]")
COMMON_PASSWORDS = frozenset({"password", "passwd", "pass", "secret", "user", "username", "token", "pwd", "port"})


@dataclass(frozen=True)
class Secret:
    """A likely secret, and where it begins in its text."""

    name: str
    text: str
    start: int

    @property
    def masked(self) -> str:
        """What may be shown of it.

        >>> Secret("Hugging Face token", "hf_abcdefghij", 0).masked
        'hf_a… (13 characters)'
        """
        return f"{self.text[:4]}… ({len(self.text)} characters)"


def likely_secrets(text: str) -> Iterator[Secret]:
    """The secrets that a text seems to hold.

    >>> [one.name for one in likely_secrets("ssh://me:hunter2!x@host, key AKIAIOSFODNN7EXAMPLE")]
    ['password in a URL']
    """
    for form in FORMS:
        if any(anchor in text for anchor in form.anchors):
            for found in form.pattern.finditer(text):
                secret = found[1]
                if entropy_bits(secret) >= form.least_bits and _is_no_example(secret):
                    yield Secret(form.name, secret, found.start(1))


def entropy_bits(text: str) -> float:
    """Shannon's entropy of the characters of a text, in bits each.

    >>> entropy_bits("aaaa"), entropy_bits("abcd")
    (0.0, 2.0)
    """
    counts = Counter(text).values()
    return sum((count / len(text) * math.log2(len(text) / count) for count in counts), start=0.0)


def _is_no_example(secret: str) -> bool:
    return not EXAMPLE.search(secret) and secret.lower() not in COMMON_PASSWORDS

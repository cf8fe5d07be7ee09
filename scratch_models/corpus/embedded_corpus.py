"""The corpus that every machine has: the documentation of Python and of the project's own dependencies.

It falls into disjoint sets. A near-duplicate group, and so every version of a text, lies whole in one of them:

    base               what the embedded base and its tokenizer read (one member of each group)
    base_held_out      the same packages, never read: on these the base is measured
    domain             torch's documentation, which neither base nor tokenizer ever saw: extension and tuning read it
    domain_held_out    the same, never read by anything: on these base and assistant are compared

A group with members in torch and in another package belongs to the base's side, and its torch members are dropped.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.cache_folder import cache_folder
from configs.whole_folder import write_whole
from scratch_models.corpus.documentation import Document, read_namespaces, read_package, read_topics
from scratch_models.documents.near_duplicates import near_duplicate_groups
from tokenizer_ext.pages.progress import shown, tracked

BASE_PACKAGES = (
    "python",
    *("numpy", "transformers", "peft", "accelerate", "tokenizers", "tiktoken", "gradio", "gradio_client"),
    *("huggingface_hub", "pandas", "scipy", "sympy", "networkx", "pydantic", "fastapi", "jsonargparse", "datasketch"),
)
BASE_NAMESPACES = ("builtins", "math", "itertools", "numpy")
DOMAIN_PACKAGE = "torch"
DOMAIN_NAMESPACES = ("torch", "torch.Tensor", "torch.linalg", "torch.special", "torch.fft", "torch.nn.functional")
HELD_OUT_SHARE = {"base": 0.02, "domain": 0.1}
FORMAT = 1


@dataclass(frozen=True)
class EmbeddedCorpus:
    """The four disjoint sets, and how many documents were left out of them."""

    base: tuple[Document, ...]
    base_held_out: tuple[Document, ...]
    domain: tuple[Document, ...]
    domain_held_out: tuple[Document, ...]
    dropped: dict[str, int]
    """Why documents were left out -> how many."""

    def sha256(self, part: str) -> str:
        """The hash of one set's texts, in order."""
        digest = hashlib.sha256()
        for document in getattr(self, part):
            digest.update(document.text.encode() + b"\0")
        return digest.hexdigest()


@shown("reading the documentation on this disk")
def embedded_corpus() -> EmbeddedCorpus:
    """The corpus of this machine: read once, then kept in the user's cache folder under the versions it came from.

    Raises:
        InputError: one of the packages is not installed.

    """
    path = _cache_path()
    if not path.exists():
        write_whole(path, json.dumps(asdict(split_documents(read_all()))), shared=True)
    return _read_cache(path)


def read_all() -> list[Document]:
    """Every document of the packages above, base first, one for each qualified name."""
    documents = read_topics()
    for package in tracked((*BASE_PACKAGES, DOMAIN_PACKAGE), "reading the documentation", "packages"):
        documents += read_package(package)
    documents += read_namespaces("python", BASE_NAMESPACES)
    documents += read_namespaces(DOMAIN_PACKAGE, DOMAIN_NAMESPACES)
    by_name = {document.name: document for document in reversed(documents)}
    return sorted(by_name.values(), key=lambda document: document.name)


def split_documents(documents: Sequence[Document]) -> EmbeddedCorpus:
    """The four sets, by near-duplicate group; the same documents always give the same sets."""
    groups = near_duplicate_groups([document.docstring for document in documents])
    in_base = {group for group, document in zip(groups, documents, strict=True) if document.package != DOMAIN_PACKAGE}
    parts: dict[str, list[Document]] = {"base": [], "base_held_out": [], "domain": [], "domain_held_out": []}
    dropped: Counter[str] = Counter()
    seen: set[int] = set()
    for group, document in zip(groups, documents, strict=True):
        side = "domain" if document.package == DOMAIN_PACKAGE else "base"
        if side == "domain" and group in in_base:
            dropped["domain documents that nearly duplicate one of the base"] += 1
        elif group in seen:
            dropped[f"{side} near-duplicates"] += 1
        else:
            seen.add(group)
            held_out = _uniform(documents[group].name) < HELD_OUT_SHARE[side]
            parts[f"{side}_held_out" if held_out else side].append(document)
    return EmbeddedCorpus(**{part: tuple(members) for part, members in parts.items()}, dropped=dict(dropped))


def _uniform(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _cache_path() -> Path:
    versions = {package: _version(package) for package in (*BASE_PACKAGES, DOMAIN_PACKAGE)}
    splitting = {"share": HELD_OUT_SHARE, "namespaces": BASE_NAMESPACES + DOMAIN_NAMESPACES, "format": FORMAT}
    key = json.dumps([platform.python_version(), versions, splitting], sort_keys=True)
    return cache_folder() / f"embedded_corpus_{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the standard library, or a package that reading will ask for
        return None


def _read_cache(path: Path) -> EmbeddedCorpus:
    fields = json.loads(path.read_text(encoding="utf-8"))
    parts = {name: tuple(Document(**document) for document in fields[name]) for name in fields if name != "dropped"}
    return EmbeddedCorpus(**parts, dropped=fields["dropped"])

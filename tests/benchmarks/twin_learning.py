"""Times the readable twin's learning against minbpe's RegexTokenizer: 44 merges on tiny Shakespeare, GPT-4's pattern.

    python tests/benchmarks/twin_learning.py [FOLDER OF MINBPE]

FOLDER is a checkout of https://github.com/karpathy/minbpe; without it that side is skipped. minbpe counts all pairs
anew for each merge, the twin only those that a merge touches. Both sides first cut the text, which is the most of the
twin's time and hardly any of minbpe's: the ratio is shown with it and without. The vocabularies must be equal. Takes a
minute.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.bpe.split_patterns import GPT4_SPLIT_PATTERN

SHAKESPEARE = Path(__file__).resolve().parents[3] / "shared" / "data" / "tinyshakespeare.txt"
TOKENS = 300
MERGES = TOKENS - 256

Learn = Callable[[str, int], list[bytes]]


def main() -> None:
    """Prints the figures."""
    text = SHAKESPEARE.read_text(encoding="utf-8")
    twin_before = timed(learn_with_twin, text, rounds=5)
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
        peer_whole, peer_cutting, theirs = timed(learn_with_minbpe, text, rounds=1)
    twin_whole, twin_cutting, ours = min(twin_before, timed(learn_with_twin, text, rounds=5))
    print(f"{'':24}{'all, s':>10}{'cutting, s':>12}{'ms a merge':>12}")
    print(f"{'twin':24}{twin_whole:10.3f}{twin_cutting:12.3f}{1000 * (twin_whole - twin_cutting) / MERGES:12.2f}")
    if len(sys.argv) < 2:
        print("minbpe                  skipped: give the folder of a checkout of karpathy/minbpe")
        return
    print(f"{'minbpe':24}{peer_whole:10.3f}{peer_cutting:12.3f}{1000 * (peer_whole - peer_cutting) / MERGES:12.2f}")
    whole, merges = peer_whole / twin_whole, (peer_whole - peer_cutting) / (twin_whole - twin_cutting)
    print(f"times as fast, cutting included  {whole:8.0f}   wanted 100")
    print(f"times as fast, merges alone      {merges:8.0f}   wanted 100")
    print(f"vocabularies equal               {theirs == ours!s:>8}   wanted True")


def timed(learn: Learn, text: str, rounds: int) -> tuple[float, float, list[bytes]]:
    """Median seconds for all merges, for none of them, and the tokens learned."""
    seconds: dict[int, list[float]] = {256: [], TOKENS: []}
    for _ in range(rounds):
        for tokens, times in seconds.items():
            start = time.perf_counter()
            learned = learn(text, tokens)
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[TOKENS]), statistics.median(seconds[256]), learned


def learn_with_twin(text: str, tokens: int) -> list[bytes]:
    """The merged tokens, in their order."""
    bpe = train_bpe([text], tokens, split_pattern=GPT4_SPLIT_PATTERN)
    return sorted(bpe.ranks, key=bpe.ranks.__getitem__)[256:]


def learn_with_minbpe(text: str, tokens: int) -> list[bytes]:
    """The merged tokens, in their order."""
    from minbpe import RegexTokenizer  # type: ignore[import-not-found]

    tokenizer = RegexTokenizer(GPT4_SPLIT_PATTERN)
    tokenizer.train(text, tokens)
    return [tokenizer.vocab[id_] for id_ in range(256, tokens)]


if __name__ == "__main__":
    main()

"""What `python -m scratch_models.image_tokens` does: images into codes, codes into tokens, digits asked for by name."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from configs.manifest import sealed_folder
from configs.whole_folder import write_whole
from scratch_models.image_words.autoencoder import Autoencoder, fit_autoencoder
from scratch_models.image_words.code_gpt import train_codes
from scratch_models.image_words.code_words import NamedImages
from scratch_models.image_words.digit_images import NAMES, DigitClassifier, Digits, jittered, load_digits
from scratch_models.image_words.drawn_digits import paint_digits, plot_digits, share_seen, write_digits
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.run_folder import RunFolder
from scratch_models.rungs.gpt2_weights import save_gpt2
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.pages.plots import save_figure

COPIES = 10
"""Jittered copies of each digit that are read."""


def learn_codes(codes: int, *, steps: int, seed: int, run: RunFolder) -> tuple[Autoencoder, DigitClassifier]:
    """Trains the autoencoder, which is saved, and the classifier, and prints how well both do on held-out digits."""
    read, held_out = load_digits(seed)
    classifier = DigitClassifier(read)
    started = time.monotonic()
    autoencoder = fit_autoencoder(
        jittered(read, COPIES, seed).images, codes, steps=steps, learning_rate=2e-3, seed=seed
    )
    write_whole(run.path / "autoencoder.safetensors", save(autoencoder.state_dict()))
    repainted = autoencoder.decode(autoencoder.encode(held_out.images))
    figures = {
        "real_digits_recognised": _share(classifier, held_out),
        "digits_through_codes_recognised": _share(classifier, Digits(repainted, held_out.labels)),
        "codes_used": len(autoencoder.encode(read.images).unique()),
        "squared_error": float((repainted - held_out.images).square().mean()),
        "autoencoder_seconds": time.monotonic() - started,
    }
    _keep(run, figures)
    print(
        f"Of {len(held_out.labels)} held-out digits the classifier recognises {figures['real_digits_recognised']:.1%}, "
        f"through the autoencoder's codes {figures['digits_through_codes_recognised']:.1%} "
        f"({figures['codes_used']} of {codes} codes in use, {figures['autoencoder_seconds']:.0f} s)"
    )
    return autoencoder, classifier


def learn_words(
    extended: Extended, autoencoder: Autoencoder, settings: LoopSettings, *, rows_per_batch: int, run: RunFolder
) -> None:
    """Trains the rows of the codes, saves the model, and prints what moved and what did not."""
    read, held_out = load_digits(settings.seed)
    batches, held_out_batches = (
        NamedImages(extended.tokenizer, digits.labels, autoencoder.encode(digits.images), rows_per_batch, settings.seed)
        for digits in (jittered(read, COPIES, settings.seed), held_out)
    )
    started = time.monotonic()
    figures = train_codes(extended, batches, held_out_batches, settings, run)
    _keep(run, {**figures, "rows_seconds": time.monotonic() - started})
    model: Any = extended.model
    with sealed_folder(run.final) as partial:
        save_gpt2(model, partial, extended.tokenizer)
    kept = "every one kept its bits" if figures["frozen_numbers_kept"] else "AND THEY CHANGED"
    print(
        f"{extended.certificate.control_tokens} new tokens: {figures['trained_numbers']:,} numbers trained, "
        f"{figures['frozen_numbers']:,} frozen ({kept}); held-out loss {figures['held_out_loss_nats']:.3f} nats a code"
    )


def draw(
    extended: Extended,
    autoencoder: Autoencoder,
    classifier: DigitClassifier,
    *,
    per_name: int,
    temperature: float,
    seed: int,
    run: RunFolder,
) -> float:
    """Asks for digits by name and plots them; prints and returns the share that the classifier recognises."""
    read, held_out = load_digits(seed)
    written = write_digits(extended, autoencoder.codebook.num_embeddings, per_name, temperature, seed)
    drawn = paint_digits(autoencoder, written, per_name)
    recognised = classifier.recognised(drawn)
    by_name = dict(zip(NAMES, recognised.view(len(NAMES), per_name).float().mean(dim=1).tolist(), strict=True))
    share = recognised.float().mean().item()
    known = autoencoder.encode(torch.cat([read.images, jittered(read, COPIES, seed).images]))
    seen, real_seen = (share_seen(some, known) for some in (written, autoencoder.encode(held_out.images).tolist()))
    broken = sum(codes is None for codes in written)
    figures = {"drawn_digits": len(written), "drawn_digits_recognised": share, "by_name": by_name}
    _keep(
        run, {**figures, "no_image": broken, "codes_that_were_read": seen, "held_out_codes_that_were_read": real_seen}
    )
    plot = run.path / "digits.png"
    repainted = autoencoder.decode(autoencoder.encode(held_out.images))
    save_figure(plot_digits(held_out, repainted, drawn, recognised), plot)
    print(f"Of {len(written)} digits asked for by name the classifier recognises {share:.1%}, ", end="")
    print(f"by name: {', '.join(f'{name} {part:.0%}' for name, part in by_name.items())}")
    print(f"{broken} were no image; {seen:.1%} have codes that were read, ", end="")
    print(f"of held-out real digits {real_seen:.1%}. Drawn: {plot}")
    return share


def _share(classifier: DigitClassifier, digits: Digits) -> float:
    return classifier.recognised(digits).float().mean().item()


def _keep(run: RunFolder, figures: dict[str, Any]) -> None:
    """Adds figures to `digits.json` of the run."""
    path: Path = run.path / "digits.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_whole(path, json.dumps({**known, **figures}, indent=2) + "\n")

"""Teaches a GPT words for pictures: it writes handwritten digits when asked for them by name.

    python -m scratch_models.image_tokens

An autoencoder turns each of scikit-learn's digits into four codes. Each code becomes a new token of a GPT, and the rows
of these tokens alone are trained, on lines such as `seven: <0.17><1.3><2.60><3.5>`; all that the GPT knew stays as it
was. Then it is asked for digits by name, and a classifier that was trained on real digits says what it sees in them.
The run keeps `digits.png`, `digits.json`, the autoencoder, and `final/`, which `scratch_models.sample` opens.
"""

import dataclasses
from dataclasses import dataclass

from configs import InputError, run_entry
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.loop_settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class ImageTokensSettings:
    """Turns digits into codes, codes into tokens of a GPT, and asks it for digits by name."""

    base: str = "embedded"
    """The GPT: `embedded`, or a GPT-2 folder or Hub name."""
    codes: int = 64
    """Codes of the codebook; each is a token at each of the four places of an image."""
    autoencoder_steps: int = 1000
    """Steps of the autoencoder, of 64 images each."""
    max_steps: int = 600
    """Steps in which the rows of the new tokens train."""
    rows_per_batch: int = 32
    """Digits that one of these steps reads."""
    learning_rate: float = 0.01
    """Peak learning rate of the new rows."""
    digits_per_name: int = 20
    """Digits asked for by each name."""
    temperature: float = 0.7
    """Below 1 the likelier codes are drawn more often than they occur: fewer kinds of digits, and clearer ones."""
    seed: int = 0
    """Same seed, same split, same start values, same digits."""
    output_dir: str | None = None
    """New folder; by default `runs/image-tokens-<n>`."""

    def __post_init__(self) -> None:
        for name, least in (("codes", 2), ("autoencoder_steps", 10), ("rows_per_batch", 1), ("digits_per_name", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least {least}")
        Sampling(temperature=self.temperature, seed=self.seed)  # refuses what cannot be
        self.loop()

    def loop(self) -> LoopSettings:
        """The part of the settings that the training loop takes."""
        return LoopSettings(
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(20, self.max_steps // 10),
            schedule="cosine",
            evaluation_steps=0,
            checkpoint_steps=0,
            seed=self.seed,
        )


def main(settings: ImageTokensSettings) -> None:
    """Learns codes, learns words for them, draws."""
    from scratch_models.embedded.default import folder_of_base
    from scratch_models.image_words.code_gpt import extend_by_codes
    from scratch_models.image_words.demonstration import draw, learn_codes, learn_words
    from scratch_models.image_words.digit_images import require_scikit_learn
    from scratch_models.loop.run_folder import choose_run_folder
    from tokenizer_ext.pages.plots import require_plots
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    require_scikit_learn()
    require_plots()
    fields = dataclasses.asdict(settings)
    run = choose_run_folder(settings.output_dir, "image-tokens", fields, resume=False)
    seed = settings.seed
    extended = extend_by_codes(folder_of_base(settings.base), settings.codes, seed)
    run = run.start(fields, {}, resume=False)
    autoencoder, classifier = learn_codes(settings.codes, steps=settings.autoencoder_steps, seed=seed, run=run)
    learn_words(extended, autoencoder, settings.loop(), rows_per_batch=settings.rows_per_batch, run=run)
    draw(
        extended,
        autoencoder,
        classifier,
        per_name=settings.digits_per_name,
        temperature=settings.temperature,
        seed=seed,
        run=run,
    )


if __name__ == "__main__":
    run_entry(main, ImageTokensSettings)

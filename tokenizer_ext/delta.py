"""An extension without its base: a small folder that anyone who has the base turns into the extended model.

    python -m tokenizer_ext.delta --extended DIR --output_dir DELTA
    python -m tokenizer_ext.delta --base DIR_OR_HUB_NAME --delta DELTA --output_dir DIR

    delta.json              the base's hashes, and the new tokens in the order of their ids: merges and control tokens
    new_rows.safetensors    their rows: `input_rows`; `output_rows` of an untied head; `output_biases` of one with them

The base is known by its hashes, and any other is refused. What comes out equals what went in, id for id and bit for
bit; chat template and generation config are the base's.
"""

from dataclasses import dataclass

from configs import InputError, run_entry
from configs.whole_folder import check_new_folder


@dataclass(frozen=True, kw_only=True)
class DeltaSettings:
    """A delta made from an extended model, or applied to a base."""

    extended: str | None = None
    """Extended model to make a delta of: a folder that `tokenizer_ext.extend` or a training wrote."""
    first_new_id: int | None = None
    """First id of the extension; by default what the folder's certificate says."""
    base: str | None = None
    """Model to apply a delta to: a Hugging Face folder or Hub name."""
    delta: str | None = None
    """Delta to apply: a folder."""
    output_dir: str
    """New folder for the delta, or for the extended model."""

    def __post_init__(self) -> None:
        if self.first_new_id is not None and self.first_new_id < 0:
            raise InputError(f"first_new_id: found {self.first_new_id}, expected 0 or more")
        makes, applies = self.extended is not None, self.base is not None and self.delta is not None
        if makes == applies or (makes and (self.base or self.delta)):
            raise InputError(
                "extended, base, delta: expected --extended DIR to make a delta, or --base DIR --delta DIR to apply one"
            )
        if applies and self.first_new_id is not None:
            raise InputError("first_new_id: belongs to --extended; a delta that is applied says it itself")


def main(settings: DeltaSettings) -> None:
    """Makes a delta, or applies one."""
    from tokenizer_ext.extension.certificate import read_certificate
    from tokenizer_ext.extension.delta import apply_delta, make_delta
    from tokenizer_ext.extension.report import describe
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    check_new_folder(settings.output_dir)
    if settings.extended is None:
        extended = apply_delta(str(settings.base), str(settings.delta))
        folder = extended.save(settings.output_dir)
        print(describe(read_certificate(folder) or extended.certificate))
    else:
        folder = make_delta(settings.extended, settings.first_new_id, settings.output_dir)
    print(f"Saved: {folder} ({sum(file.stat().st_size for file in folder.iterdir()):,} bytes)")


if __name__ == "__main__":
    run_entry(main, DeltaSettings)

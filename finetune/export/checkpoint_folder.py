"""A checkpoint of a fine-tuning run as a model like any other: what the run left, with the weights of that step.

    runs/sft-1/checkpoints/step_00000200      opens wherever a run, a model or an adapter does

The folder of it is made in the cache, once: `final/` of the run, and in it each tensor that trained taken from the
checkpoint, rounded to the type in which `final/` stores it, with the run's record beside it. Certificates, reports and
cards of the run say nothing of another step, and stay behind.
"""

import re
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import InputError
from configs.cache_folder import cache_folder, drop_oldest
from configs.file_hash import file_sha256
from configs.manifest import MANIFEST, check_manifest, sealed_folder
from finetune.lora.changed_base import ADAPTER
from scratch_models.checkpoints.checkpoint import STATE, find_damage, find_not_finite, read_tensors
from scratch_models.loop.run_folder import RECORD
from tokenizer_ext.extension.certificate import CERTIFICATE, read_certificate
from tokenizer_ext.foreign.adapter_folder import ADAPTER_WEIGHTS
from tokenizer_ext.pages.progress import shown

STAYS = (CERTIFICATE, MANIFEST, "report.html", "README.md")
MOST_KEPT, MOST_BYTES = 32, 20e9
IN_ADAPTER = "base_model.model."
OF_LOSS = "model."
"""The model's name in the module whose parameters a checkpoint holds."""


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint of a run, by its name and what lies in it."""
    return re.fullmatch(r"step_\d{8}", path.name) is not None and (path / STATE).is_file()


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that were done."""
    return int(checkpoint.name.removeprefix("step_"))


def run_at(checkpoint: Path) -> Path:
    """The folder in the cache that is the run as it would be, had it ended with this checkpoint.

    Raises:
        InputError: the checkpoint is damaged, its run is not finished, or it trains what cannot be put into `final/`.

    """
    run = checkpoint.absolute().parent.parent
    final = run / "final"
    if not (run / RECORD).is_file() or not final.is_dir():
        raise InputError(
            f"{checkpoint}: its run has no final/, expected a finished fine-tuning run: go on with --resume"
        )
    if problem := find_damage(checkpoint):
        raise InputError(f"{checkpoint.parent}: {problem}: choose another checkpoint")
    made_of = file_sha256(checkpoint / MANIFEST)[:16] + file_sha256(run / RECORD)[:16]
    target = cache_folder() / "checkpoints" / f"{run.name}-step-{step_of(checkpoint)}-{made_of}"
    if not (target / RECORD).is_file():
        _write(checkpoint, final, target)
        drop_oldest(target.parent, MOST_KEPT, MOST_BYTES)
    return target


@shown("opening the checkpoint")
def _write(checkpoint: Path, final: Path, target: Path) -> None:
    trained = read_tensors(checkpoint).get("trained", {})
    if problem := find_not_finite({"trained": trained}):
        raise InputError(f"{checkpoint}: {problem}: choose another checkpoint")
    parts = [path for path in (final, final / "base", final / "adapter") if any(path.glob("*.safetensors"))]
    for part in parts:
        check_manifest(part)
    left = dict(trained)
    size = sum(path.stat().st_size for path in final.rglob("*.safetensors"))
    with sealed_folder(target, shared=True, needed=size) as partial:
        shutil.copyfile(final.parent / RECORD, partial / RECORD)
        for part in parts:
            _write_part(part, partial / "final" / part.relative_to(final), left)
        if left:
            raise InputError(
                f"{checkpoint}: trains {next(iter(left))}, which final/ of its run does not hold as such, as after a "
                "start that changes the base (PiSSA, OLoRA): open the run itself"
            )


def _write_part(part: Path, target: Path, left: dict[str, Tensor]) -> None:
    """A folder of weights with those of the checkpoint that it has a place for, which are taken out of `left`."""
    target.mkdir(parents=True)
    certificate = read_certificate(part) if (part / CERTIFICATE).is_file() else None
    new_rows_from = None if certificate is None else certificate.base_tokens
    for path in sorted(part.iterdir()):
        if path.suffix == ".safetensors":
            changed = _changed(path, left, new_rows_from)
            with safe_open(path, "pt") as file:
                save_file(changed, target / path.name, file.metadata() or {"format": "pt"})
        elif path.is_file() and path.name not in STAYS:
            shutil.copyfile(path, target / path.name)


def _changed(path: Path, left: dict[str, Tensor], new_rows_from: int | None) -> dict[str, Tensor]:
    weights = load_file(path)
    is_adapter = path.name == ADAPTER_WEIGHTS
    for name, tensor in list(left.items()):
        place, _, rows = _in_adapter(name).rpartition(".") if is_adapter else name.removeprefix(OF_LOSS).rpartition(".")
        stored = weights.get(
            {"new_rows": f"{place}.weight", "new_biases": f"{place}.bias"}.get(rows, f"{place}.{rows}")
        )
        if stored is None:
            continue
        if rows in ("new_rows", "new_biases") and new_rows_from is not None:
            stored = stored[new_rows_from : new_rows_from + len(tensor)]
        if stored.shape == tensor.shape:
            stored.copy_(left.pop(name))
    return weights


def _in_adapter(name: str) -> str:
    """What peft calls a parameter in the file of an adapter.

    >>> _in_adapter("model.model.layers.0.mlp.up_proj.lora_A.default.weight")
    'base_model.model.model.layers.0.mlp.up_proj.lora_A.weight'
    >>> _in_adapter("model.h.0.c_attn.lora_magnitude_vector.default.weight")
    'base_model.model.h.0.c_attn.lora_magnitude_vector'
    """
    name = IN_ADAPTER + name.removeprefix(OF_LOSS)
    return name.replace(f".lora_magnitude_vector.{ADAPTER}.weight", ".lora_magnitude_vector").replace(
        f".{ADAPTER}.", "."
    )

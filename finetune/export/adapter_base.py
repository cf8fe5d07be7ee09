"""The base that an adapter names: found again, and held to the hash of the weights that the adapter was trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from configs import InputError, MissingInput
from finetune.export.remembered_hashes import base_sha256
from scratch_models.embedded.default import folder_of_base
from scratch_models.loop.run_folder import find_recorded
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.foreign.json_in_folder import read_object
from tokenizer_ext.held_weights.packed_matrices import KINDS, Bits
from tokenizer_ext.huggingface.hub_folder import fetch
from tokenizer_ext.huggingface.hub_names import may_be_on_hub
from tokenizer_ext.pages.json_records import read_record, write_record

BASE_RECORD = "base.json"


@dataclass(frozen=True, kw_only=True)
class AdapterBase:
    """What `base.json` beside an adapter says of its base, which `adapter_config.json` names."""

    given: str
    """The base as its user named it: `embedded`, a folder, a file or a name on the Hub."""
    tokens: int
    """Ids that its tokenizer uses: so many first rows of embedding and head enter the hash."""
    weights_sha256: str
    """Of its weights, as `tokenizer_ext/extension/certificate.py` defines it, whatever type they are stored in."""
    base_bits: int = 32
    """Of its weights in memory while the adapter was trained; 8 and 4 are quantised, and so others than on the disk."""
    reopened: bool = False
    """Whether the adapter was read back from the disk and found equal to the trained one; then there is a manifest."""


def write_adapter_base(record: AdapterBase, adapter: Path) -> None:
    """Writes `base.json` beside an adapter."""
    write_record(record, adapter / BASE_RECORD)


def read_adapter_base(adapter: Path) -> AdapterBase | None:
    """What `base.json` says; None where there is none, as in an adapter that another tool made.

    Raises:
        InputError: it is damaged.

    """
    path = adapter / BASE_RECORD
    return read_record(AdapterBase, path, "what a run wrote there") if path.is_file() else None


def quantised_bits(adapter: Path) -> Bits | None:
    """The bits that the base was quantised to while an adapter was trained; None where it was not, or none is known."""
    record = read_adapter_base(adapter)
    bits = find_recorded(adapter, "base_bits") if record is None else record.base_bits
    return cast(Bits, bits) if bits in KINDS else None


def adapter_fields(adapter: Path) -> dict[str, Any]:
    """The fields of `adapter_config.json`.

    Raises:
        InputError: it is not what peft writes.

    """
    path = adapter / ADAPTER_CONFIG
    fields = read_object(path)
    if not isinstance(fields.get("base_model_name_or_path"), str):
        raise InputError(f"{path}: names no base, expected what peft writes")
    return fields


def base_of_adapter(adapter: Path) -> str:
    """The folder of the base that an adapter names, fetched where it is the Hub's.

    A folder is looked for beside the adapter, where its name begins with a dot, and from here. One that is gone is
    found by the name that its user gave: `embedded` is elsewhere in another installation.

    Raises:
        InputError: it names none, or one that is not there.

    """
    fields = adapter_fields(adapter)
    named, revision = str(fields["base_model_name_or_path"]), fields.get("revision")
    beside = (adapter / named).resolve()
    if named.startswith(".") and beside.is_dir():
        return str(beside)
    if Path(named).exists():
        return named
    record = read_adapter_base(adapter)
    if record is not None and Path(folder_of_base(record.given)).exists():
        return folder_of_base(record.given)
    if named.startswith("."):
        raise MissingInput(
            f"{adapter}: the adapter points at {named}, which is not there: keep adapter/ and base/ side by side"
        )
    if not may_be_on_hub(named):
        raise MissingInput(f"{adapter}: its base {named} is not there: get it, or name it in {ADAPTER_CONFIG}")
    return str(fetch(named, revision))


def check_base(adapter: Path, base: str, model: PreTrainedModel, *, anew: bool = False) -> None:
    """Refuses a base, read into `model`, whose weights are not those that the adapter was trained on.

    Raises:
        InputError: they are not.

    """
    record = read_adapter_base(adapter)
    if record is None:
        return
    found = base_sha256(Path(base), model, record.tokens, anew=anew)
    if found != record.weights_sha256:
        raise InputError(
            f"{adapter}: was trained on a base whose weights have the sha256 {record.weights_sha256[:12]}, those of "
            f"{base} have {found[:12]}: bring the old base back, or name it in {ADAPTER_CONFIG}"
        )

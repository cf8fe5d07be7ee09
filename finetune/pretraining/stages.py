"""The parts of continued pretraining, in their order: each takes the settings and what the parts before it made."""

from dataclasses import asdict, dataclass

from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.engine.engine import Engine, start_engine
from finetune.export.saved_model import check_start_held, load_start, load_start_tokenizer, positions_of_start
from finetune.lora.held_base import held_as_set
from finetune.lora.resolved_settings import resolve
from finetune.lora.rope_scaling import scale_rope
from finetune.lora.trainable_model import TrainableModel, check_trainable, make_optimizer, train_from
from finetune.pretraining.dataset import PretrainDataset, prepare_dataset
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.monitor import TextMonitor
from finetune.pretraining.settings import PretrainSettings
from finetune.pretraining.text_sources import name_texts
from finetune.pretraining.token_files import encode_sources
from finetune.sliced.sliced_base import SlicedBase, open_sliced
from scratch_models.launch.waiting import main_process_first
from scratch_models.loop.run_folder import RunFolder, refuse_other_settings
from tokenizer_ext.extension.certificate import tokenizer_sha256
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.held_weights.quantised_layers import held_bits

BLOCK_SIZE = 512
"""Where none is given: long enough for most documents, and on a CPU as fast as shorter blocks."""


@dataclass(frozen=True)
class Start:
    """What a run starts from: the base as it was loaded, and the text as ids."""

    settings: PretrainSettings
    """As the run takes them, nothing left open."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    dataset: PretrainDataset
    sliced: SlicedBase | None = None
    """The base where its weights are read by slices: the model has none yet."""


@dataclass(frozen=True)
class Training:
    """What trains, and with what."""

    trainable: TrainableModel
    engine: Engine
    dataset: PretrainDataset
    """As the engine wants its rows."""
    monitor: TextMonitor
    optimizer: Optimizer


def read_start(settings: PretrainSettings, run: RunFolder, accelerator: Accelerator) -> Start:
    """The texts as ids, then the base; what can be refused for the sake of the texts comes before its weights.

    Raises:
        InputError: a text or base that cannot be used, or a resumed run that was started with other text.

    """
    positions = positions_of_start(settings.base)
    if positions is not None and settings.rope_scaling:
        positions = round(positions * settings.rope_scaling["factor"])
    block_size = choose_block_size(settings.block_size, positions)
    check_start_held(settings.base, held_as_set(settings))
    named = name_texts(settings.corpus, settings.watched, settings.best_by)
    tokenizer = load_start_tokenizer(settings.base)
    ends = DocumentEnds.of(tokenizer)
    with main_process_first(accelerator):
        texts = encode_sources(named.all, tokenizer, ends)
    sliced = open_sliced(settings.base, settings, accelerator)
    if sliced is None:
        model, tokenizer = load_start(settings.base, accelerator.device, held_as_set(settings))
        scale_rope(model, settings.rope_scaling)
    else:
        model, tokenizer = sliced.model, sliced.plan.base
    dataset = prepare_dataset(
        texts,
        named,
        ends,
        block_size=block_size,
        blocks_per_batch=settings.blocks_per_batch,
        evaluation_blocks=settings.evaluation_blocks,
        seed=settings.seed,
    )
    settings = resolve(settings, model, dataset.batches, block_size=block_size, base_bits=held_bits(model))
    if settings.resume and accelerator.is_main_process:
        inputs = {"data_sha256": dataset.sha256, "tokenizer_sha256": tokenizer_sha256(tokenizer)}
        run.start({}, inputs, resume=True)
        refuse_other_settings(run.path, asdict(settings))
    return Start(settings, model, tokenizer, dataset, sliced)


def choose_block_size(given: int | None, positions: int | None) -> int:
    """The tokens of a block: as given, else 512 or as many as the model has positions.

    >>> choose_block_size(None, 96), choose_block_size(None, None), choose_block_size(64, 96)
    (96, 512, 64)

    Raises:
        InputError: more are given than the model has positions.

    """
    if given is not None and positions is not None and given > positions:
        raise InputError(f"block_size: found {given}, expected at most the model's {positions} positions")
    return given or min(BLOCK_SIZE, positions or BLOCK_SIZE)


def prepare_training(
    settings: PretrainSettings,
    start: Start,
    run: RunFolder,
    accelerator: Accelerator,
    trainable: TrainableModel | None = None,
) -> Training:
    """The base, changed in place into what trains: LoRA in it, or every weight; as it is given where it is spread."""
    if trainable is None:
        plan = Plan(base=start.tokenizer, tokenizer=start.tokenizer)
        check_trainable(start.model, plan, settings.lora)
        trainable = train_from(start.model, plan, settings.lora)
    engine = start_engine(trainable.model, settings, accelerator, run=run)
    tokens = engine.tokens_at_once(settings.tokens_per_micro_batch)
    dataset = start.dataset.laid_out(packed=engine.packs, tokens_per_micro_batch=tokens)
    monitor = TextMonitor(trainable.model, start.tokenizer, dataset, accelerator, engine, settings.sample_tokens)
    rate = settings.loop.learning_rate
    return Training(trainable, engine, dataset, monitor, make_optimizer(trainable, rate, rate, settings.weight_decay))

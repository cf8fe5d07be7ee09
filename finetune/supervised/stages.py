"""The parts of supervised fine-tuning, in their order: each takes the settings and what the parts before it made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain

from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel

from finetune.chat.annotations import refuse_unusable_annotations
from finetune.chat.chat_format import ChatFormat
from finetune.chat.choose_format import format_of
from finetune.chat.dataset import SupervisedDataset, prepare_dataset
from finetune.chat.mixing import draw, enough_to_draw
from finetune.chat.token_cache import default_token_cache
from finetune.conversations.formats import Conversation
from finetune.conversations.splits import ConversationSplits, read_conversation_splits
from finetune.engine.engine import Engine, start_engine
from finetune.evaluation.questions_asked import choose_askable
from finetune.evaluation.scoring import Answered, ways_to_ask
from finetune.export.saved_model import check_start_held, load_start
from finetune.inspection.before_training import inspect_before_training
from finetune.lora.held_base import held_as_set
from finetune.lora.resolved_settings import choose_maximum_tokens, choose_per_step, resolve
from finetune.lora.rope_scaling import scale_rope
from finetune.lora.trainable_model import TrainableModel, check_trainable, make_optimizer, plan_vocabulary, train_from
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import ChatPromptFormat
from finetune.sliced.sliced_base import SlicedBase, open_sliced
from finetune.supervised.monitor import HeldOutMonitor
from finetune.supervised.settings import SftSettings
from scratch_models.launch.waiting import main_process_first
from scratch_models.loop.run_folder import RunFolder, refuse_other_settings
from tokenizer_ext.extension.certificate import tokenizer_sha256
from tokenizer_ext.extension.corpus_files import read_documents
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.held_weights.quantised_layers import held_bits
from tokenizer_ext.huggingface.hf_model import positions_of


@dataclass(frozen=True)
class Start:
    """What a run starts from: the base as it was loaded, and what was read for it."""

    settings: SftSettings
    """As the run takes them, nothing left open."""
    model: PreTrainedModel
    plan: Plan
    """The base's tokenizer, and the one that it will be extended to."""
    data_sha256: str
    dataset: SupervisedDataset
    chat: ChatFormat
    """What the conversations are rendered in, and the assistant is asked in."""
    asked: list[Conversation]
    """The held-out conversations that base and assistant are asked: those that fit in every prompt format."""
    sliced: SlicedBase | None = None
    """The base where its weights are read by slices: the model has none yet."""


@dataclass(frozen=True)
class Training:
    """What trains, and with what."""

    trainable: TrainableModel
    engine: Engine
    dataset: SupervisedDataset
    """As the engine wants its rows."""
    monitor: HeldOutMonitor
    optimizer: Optimizer


def read_start(settings: SftSettings, run: RunFolder, accelerator: Accelerator) -> Start:
    """The base and the data; all that can be refused for their sake comes before the base is asked.

    Raises:
        InputError: a base, data or adapter that cannot be used, or a resumed run that was started with other data.

    """
    check_start_held(settings.base, held_as_set(settings))
    splits = read_splits(settings, accelerator)
    data_sha256 = splits.sha256()
    documents = splits.corpus if settings.corpus is None else read_documents(settings.corpus)
    model, plan, sliced = _open_base(settings, documents, accelerator)
    settings = replace(settings, maximum_tokens=choose_maximum_tokens(settings.maximum_tokens, positions_of(model)))
    tokenizer = plan.base
    chat = format_of(settings, plan.tokenizer, model)
    dataset = read_dataset(settings, chat, model, splits, run, accelerator)
    sizes = {
        "conversations_per_step": dataset.batches.per_step,
        "new_tokens": settings.wanted_tokens,
        "base_bits": held_bits(model),
    }
    settings = resolve(settings, model, dataset.batches, **sizes)
    formats = [*ways_to_ask(settings, tokenizer, model).values(), ChatPromptFormat(chat)]
    models = [LocalModel(model, prompt_format) for prompt_format in formats]
    asked = choose_askable(splits.held_out, settings.held_out_conversations, models)
    if settings.resume and accelerator.is_main_process:
        inputs = {"data_sha256": data_sha256, "tokenizer_sha256": tokenizer_sha256(tokenizer)}
        run.start({}, inputs, resume=True)
        refuse_other_settings(run.path, asdict(settings))
    return Start(settings, model, plan, data_sha256, dataset, chat, asked, sliced)


def _open_base(
    settings: SftSettings, documents: Sequence[str], accelerator: Accelerator
) -> tuple[PreTrainedModel, Plan, SlicedBase | None]:
    """The base, and what is added to its tokens; whole, or without weights where they are read by slices later.

    Raises:
        InputError: a base or an adapter that cannot be used.

    """
    learns_tokens = bool(documents) and settings.wanted_tokens > 0
    sliced = open_sliced(settings.base, settings, accelerator, settings.chat, learns_tokens=learns_tokens)
    if sliced is not None:
        return sliced.model, sliced.plan, sliced
    model, tokenizer = load_start(settings.base, accelerator.device, held_as_set(settings))
    scale_rope(model, settings.rope_scaling)
    plan = plan_vocabulary(tokenizer, documents, settings.wanted_tokens, settings.chat)
    check_trainable(model, plan, settings.lora)
    return model, plan, None


def read_splits(settings: SftSettings, accelerator: Accelerator) -> ConversationSplits:
    """The conversations, read by the main process first, which keeps them for the others."""
    with main_process_first(accelerator):
        splits = read_conversation_splits(settings.data, settings.held_out, settings.learn)
    if settings.calculator:
        refuse_unusable_annotations(chain(splits.training, splits.held_out))
    if accelerator.is_main_process:
        both = chain(splits.training, splits.held_out)
        for line in inspect_before_training(settings.data, ((one,) for one in both), splits.kept_as):
            print(line)
    return splits


def read_dataset(
    settings: SftSettings,
    chat: ChatFormat,
    model: PreTrainedModel,
    splits: ConversationSplits,
    run: RunFolder,
    accelerator: Accelerator,
) -> SupervisedDataset:
    """The conversations as ids, which the main process leaves in a cache for the others and for the next run.

    Where a run reads few of very many, no more are rendered than it reads.
    """
    parts = accelerator.num_processes * (settings.accumulation_steps or 1)
    all_of_them = len(splits.training)
    per_step = settings.conversations_per_step or choose_per_step(all_of_them, parts)
    wanted = None if settings.max_steps is None else settings.max_steps * per_step
    number = run.record().get("conversations_drawn") if settings.resume else enough_to_draw(wanted, all_of_them)
    while True:
        some = splits if number is None else draw(splits, number, settings.seed)
        with main_process_first(accelerator):
            dataset = prepare_dataset(
                chat,
                some,
                maximum_tokens=choose_maximum_tokens(settings.maximum_tokens, positions_of(model)),
                held_out_conversations=settings.held_out_conversations,
                conversations_per_step=per_step,
                tokens_per_micro_batch=settings.tokens_per_micro_batch,
                seed=settings.seed,
                accumulation_steps=settings.accumulation_steps,
                cache=default_token_cache(),
            )
        if number is None or settings.resume or len(dataset.training) >= (wanted or 0):
            return dataset
        number = enough_to_draw(2 * number, all_of_them)


def prepare_training(
    settings: SftSettings,
    start: Start,
    base_answered: Sequence[Answered],
    run: RunFolder,
    accelerator: Accelerator,
    trainable: TrainableModel | None = None,
) -> Training:
    """The base, changed in place into what trains; `base_answered` are its replies, to show them beside later ones.

    A `trainable` that is given is trained: it was spread over the processes, and asked as the base that it starts from.
    """
    trainable = trainable or train_from(start.model, start.plan, settings.lora)
    engine = start_engine(trainable.model, settings, accelerator, run=run, packing=settings.packing)
    tokens = engine.tokens_at_once(settings.tokens_per_micro_batch)
    dataset = start.dataset.in_rows(
        packed=engine.packs, tokens_per_micro_batch=tokens, shares_prefixes=engine.shares_prefixes
    )
    monitor = HeldOutMonitor(
        trainable,
        dataset,
        base_answered,
        accelerator,
        settings.reply_tokens,
        replies=settings.evaluation_replies,
        engine=engine,
    )
    rate = settings.loop.learning_rate
    optimizer = make_optimizer(trainable, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)
    return Training(trainable, engine, dataset, monitor, optimizer)

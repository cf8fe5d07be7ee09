"""What a run sets in the whole process, put back once it is over: a notebook goes on after it, and so do other runs.

A command ends with its process; a call does not. What is put back: the environment, torch's threads and random state,
accelerate's idea of the processes, what transformers and `warnings` show, and how the C library keeps freed memory.
"""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState

from finetune.engine.freed_memory import keep_usual_memory, return_freed_memory
from tokenizer_ext.pages.terminal import quiet_libraries


@contextmanager
def left_as_found() -> Iterator[None]:
    """Leaves the process as it is now, whatever is done inside, and whether it succeeds or not; serves as decorator."""
    with _environment(), _threads(), _processes(), _shown(), torch.random.fork_rng(range(torch.cuda.device_count())):
        yield


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Gives the system back what training took, and has the C library give back from now on what is freed."""
    try:
        yield
    finally:
        gc.collect()
        keep_usual_memory()
        return_freed_memory()


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def _processes() -> Iterator[None]:
    """Lets a run have an accelerator of its own, also beside one of whoever calls that has another precision."""
    states = (AcceleratorState, GradientState, PartialState)
    before = [dict(state._shared_state) for state in states]
    for state in states[:2]:
        state._shared_state.clear()
    try:
        yield
    finally:
        for state, kept in zip(states, before, strict=True):
            state._shared_state.clear()
            state._shared_state.update(kept)


@contextmanager
def _shown() -> Iterator[None]:
    """Quiet libraries, as they are in a command."""
    log = transformers.logging
    verbosity, has_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    try:
        with warnings.catch_warnings():
            quiet_libraries()
            yield
    finally:
        log.set_verbosity(verbosity)
        if has_bars:
            log.enable_progress_bar()

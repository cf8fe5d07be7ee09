"""A slider over the checkpoints of the run that a chosen model is of: it puts the model of that step in its place."""

from typing import Any

import gradio as gr

from apps.showing.studio_models import HIDDEN
from apps.showing.studio_parts import StudioParts
from finetune.service.model_names import STEP, NoSuchModel


def add_slider(studio: StudioParts, model: gr.Dropdown, elem_id: str) -> gr.Slider:
    """The slider of a dropdown of models; it is seen where the model is of a run that has checkpoints."""
    slider = gr.Slider(0, 1, step=1, visible=False, label="Checkpoint", elem_id=elem_id, elem_classes="steps")

    def fit(name: object) -> Any:
        run, is_step, step = str(name).partition(STEP)
        steps = _steps(studio, run)
        if len(steps) < 2:  # step 0 alone is the base
            return gr.update(visible=False)
        last = len(steps)
        place = steps.index(int(step)) if is_step and int(step) in steps else last
        words = f"after step {steps[place]}" if place < last else "the finished run"
        label = f"Checkpoint of {len(steps)}, from the base to the end: {words}"
        return gr.update(visible=True, maximum=last, value=place, label=label)

    def move(name: object, place: object) -> Any:
        run = str(name).partition(STEP)[0]
        steps = _steps(studio, run)
        if not isinstance(place, int | float) or not 0 <= place <= len(steps):
            return gr.skip()
        chosen = run if place == len(steps) else f"{run}{STEP}{steps[int(place)]}"
        return gr.update(choices=list(dict.fromkeys([*studio.names, *studio.servers, chosen])), value=chosen)

    model.change(fit, model, slider, queue=False, preprocess=False, **HIDDEN)
    moved: dict[str, Any] = {**HIDDEN, "trigger_mode": "always_last"}  # by pointer or key; the last place counts
    slider.input(move, [model, slider], model, queue=False, preprocess=False, **moved)
    gr.context.Context.root_block.load(fit, model, slider, queue=False, preprocess=False, **HIDDEN)
    return slider


def _steps(studio: StudioParts, name: str) -> list[int]:
    try:
        return studio.parts.names.steps_of(name)
    except NoSuchModel:
        return []

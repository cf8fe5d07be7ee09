"""A button that has the browser read a text file into a box: it is sent as what is typed is, nothing is uploaded."""

import json

import gradio as gr

from apps.showing.studio_models import HIDDEN

READS = """
(before) => new Promise((resolve) => {
  const most = %d, input = document.createElement('input');
  const done = (text) => { input.remove(); resolve(text); };
  Object.assign(input, { type: 'file', accept: %s, hidden: true, oncancel: () => done(before) });
  input.onchange = async () => {
    const [file] = input.files;
    try {
      if (file.size > most) throw new RangeError(`has ${file.size.toLocaleString('en')} bytes, expected at most `
        + `${most.toLocaleString('en')}: send it to the API (POST /v1/files) and choose it by name`);
      done(new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer()));
    } catch (error) {
      window.alert(`${file.name} ` + (error instanceof RangeError ? error.message : 'is not text in UTF-8'));
      done(before);
    }
  };
  document.body.append(input);
  input.click();
})
"""


def add_opener(into: gr.Textbox, most_bytes: int, endings: str = ".jsonl,.json,.txt,.md") -> gr.Button:
    """The button; `endings` are those of the files that it offers, separated by commas."""
    button = gr.Button("Open a file …", size="sm", min_width=120, scale=0, elem_id=f"{into.elem_id}-open")
    button.click(None, into, into, js=READS % (most_bytes, json.dumps(endings)), queue=False, **HIDDEN)
    return button

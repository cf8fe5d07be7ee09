"""Measures the embedded base that ships: bits per byte on held-out documents of its own corpus, and its size."""

import torch

from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.corpus.blocks import held_out_blocks
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.loop.training import SummedLoss
from scratch_models.rungs.gpt2_weights import load_gpt2
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.terminal import quiet_libraries

BLOCKS_PER_BATCH = 8


@torch.no_grad()
def main() -> None:
    """Prints the figures."""
    quiet_libraries()
    model = load_gpt2(str(EMBEDDED_BASE)).float().eval()
    tokenizer = load_tokenizer(str(EMBEDDED_BASE))
    documents = [document.text for document in embedded_corpus().base_held_out]
    encoded = plain_text_encoder(tokenizer).encode_batch(documents, add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    # Each document follows an end of text, so that its first token is predicted too; ends cost nats and count no bytes.
    ids = torch.tensor([end, *(id_ for one in encoded for id_ in (*one.ids, end))])
    nats = sum(
        float(SummedLoss(model)(**micro_batch))
        for micro_batch in held_out_blocks(ids, model.config.block_size, BLOCKS_PER_BATCH)
    )
    text_bytes = sum(len(text.encode()) for text in documents)
    megabytes = sum(path.stat().st_size for path in EMBEDDED_BASE.rglob("*")) / 1e6
    print(f"{len(documents)} held-out documents, {len(ids) - 1} tokens, {text_bytes} bytes")
    print(f"{nats / (len(ids) - 1):.4f} nats per token, {bits_per_byte(nats, text_bytes):.4f} bits per byte")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {megabytes:.1f} MB on disk")


if __name__ == "__main__":
    main()

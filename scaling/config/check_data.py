"""Check that the keys of a config's `data` section fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NEEDS_PATH = {
    "text_folder": "folder of text files",
    "text": "text files",
    "jsonl": "files of JSON lines",
    "parquet": "Parquet files",
    "hf": "folder that `datasets` saved, or OWNER/NAME of the hub",
    "image_folder": "folder that has a folder of images per class",
    "audio_folder": "folder that has a folder of .wav files per class",
    "interaction_table": "CSV or Parquet file of interactions",
}

MOST_TRAINED = 10**7  # tokens of a BPE; the trainer reserves memory for all of them
MASKS = (("time_masks", "mask_frames", "height"), ("band_masks", "mask_bands", "width"))


def problems(data: Any) -> Iterator[str]:
    """Yield a line for each bad combination; `data` has the section's attributes."""
    if data.field == "language" and data.tokenizer == "bytes" and data.vocab_size != 256:
        yield f"config.data.vocab_size={data.vocab_size}: the byte tokenizer has 256"
    if data.field == "language" and data.tokenizer == "bpe" and data.vocab_size < 257:
        yield f"config.data.vocab_size={data.vocab_size}: bpe needs at least 257"
    if data.tokenizer == "bpe" and not data.tokenizer_path and data.vocab_size > MOST_TRAINED:
        yield (
            f"config.data.vocab_size={data.vocab_size}: a tokenizer is trained to at most "
            f"{MOST_TRAINED:,} tokens; lower it"
        )
    if data.name in NEEDS_PATH and not data.path:
        yield f"config.data.path is not set; name the {NEEDS_PATH[data.name]}"
    if data.separator is not None and data.name != "text":
        yield f"config.data.separator={data.separator!r} needs config.data.name='text'"
    if data.errors != "strict" and data.name not in ("text", "jsonl", "parquet", "hf"):
        yield (
            f"config.data.errors={data.errors!r} needs config.data.name='text', 'jsonl', 'parquet' "
            "or 'hf'"
        )
    for count, most, side in MASKS:
        if getattr(data, count) and not 0 < getattr(data, most) <= getattr(data, side):
            yield (
                f"config.data.{most}={getattr(data, most)} should be from 1 to "
                f"config.data.{side}={getattr(data, side)} where config.data.{count} is on"
            )
    if data.field == "recommend" and data.valid_split not in (None, "users"):
        yield (
            f"config.data.valid_split={data.valid_split!r}: config.data.field='recommend' takes "
            "'users' to hold out config.data.valid_fraction of the users, or None to hold out the "
            "last item of each"
        )
    if data.drop_items == 1:
        yield "config.data.drop_items=1 hides every item but the last; choose below 1"
    if len(data.columns) != 3 or not all(isinstance(name, str) for name in data.columns):
        yield f"config.data.columns={data.columns} should be three names: user, item, timestamp"

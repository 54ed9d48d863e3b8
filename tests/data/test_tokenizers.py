"""Any tokenizer.json encodes documents whole and as they are, or refuses them in one line."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from scaling.data.tokenizers import SEPARATOR, SEPARATORS, BpeTokenizer
from scaling.utils.errors import UserError

TEXT = f"grüße {SEPARATOR} {' '.join(SEPARATORS)} <pad> 日本  ende " * 9


def trained(special=SEPARATOR, prefix_space=False, alphabet=True):
    """A byte-level BPE of about 300 tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[special, "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT.replace("日本", "")], trainer)
    return tokenizer


def stripping():
    return tokenizers.AddedToken("<pad>", lstrip=True, rstrip=True)


ADDED = "日本"
# name -> (changes the tokenizer, changes its JSON)
CHANGES = {
    "truncation": (lambda t: t.enable_truncation(20), None),
    "padding": (lambda t: t.enable_padding(length=999, pad_id=1), None),
    "padding to a multiple": (lambda t: t.enable_padding(pad_to_multiple_of=64), None),
    "special token that takes spaces": (lambda t: t.add_special_tokens([stripping()]), None),
    "token of two letters": (lambda t: t.add_tokens([ADDED]), None),
    "template": (
        lambda t: setattr(t, "post_processor", processors.TemplateProcessing(
            single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, 0)]
        )), None,
    ),
    "dropout": (lambda t: None, lambda file: file["model"].update(dropout=0.5)),
    "separator not special": (
        lambda t: None, lambda file: [a.update(special=False) for a in file["added_tokens"][:1]],
    ),
    "gap in the ids": (
        lambda t: None,
        lambda file: file["added_tokens"].append({**file["added_tokens"][1], "id": 999,
                                                  "content": "<gap>"}),
    ),
}  # fmt: skip


def check(tokenizer):
    """Tokens that hold every byte of TEXT, the same ones each time, and no separator."""
    first, second = (tokenizer.encode_batch([TEXT, "x"])[0].tolist() for _ in range(2))
    assert first == second
    assert tokenizer.byte_lengths()[first].sum() == len(TEXT.encode())
    assert len(tokenizer.byte_lengths()) == tokenizer.vocab_size > max(first)
    assert tokenizer.separator not in first and tokenizer.decode(first) == TEXT
    return first


@pytest.mark.parametrize("name", CHANGES)
def test_documents_are_encoded_whole_and_as_they_are(name, tmp_path):
    plain, path = tmp_path / "plain.json", tmp_path / "tokenizer.json"
    tokenizer = trained()
    tokenizer.save(str(plain))
    change, change_file = CHANGES[name]
    change(tokenizer)
    tokenizer.save(str(path))
    if change_file:
        file = json.loads(path.read_text())
        change_file(file)
        path.write_text(json.dumps(file))
    ids = check(BpeTokenizer(path))
    if name != "token of two letters":
        assert ids == check(BpeTokenizer(plain))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_separator_inside_a_text_is_text(separator, tmp_path):
    trained(special=separator).save(str(tmp_path / "tokenizer.json"))
    check(BpeTokenizer(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: trained(prefix_space=True),
        lambda: trained(alphabet=False),  # no token for the bytes of Japanese
        lambda: _with_normalizer(normalizers.NFD()),
        lambda: _with_normalizer(normalizers.Replace("r", "l")),  # as many bytes, other ones
    ],
    ids=["prefix space", "missing bytes", "normalizer", "other letters"],
)
def test_a_tokenizer_that_changes_text_is_refused(make, tmp_path):
    make().save(str(tmp_path / "tokenizer.json"))
    tokenizer = BpeTokenizer(tmp_path / "tokenizer.json")
    line = (
        rf"tokenizer.json: the document that begins 'grüße [^\n]* has {len(TEXT.encode()):,} bytes"
    )
    with pytest.raises(UserError, match=line):
        tokenizer.encode_batch([TEXT])


def _with_normalizer(normalizer):
    tokenizer = trained()
    tokenizer.normalizer = normalizer
    return tokenizer


@pytest.mark.parametrize("content", ["[]", "null", "{}", "no JSON", "[" * 100_000, '{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(
        UserError, match=r"^config.data.tokenizer_path=\S+: no tokenizer.json[^\n]*$"
    ):
        BpeTokenizer(path)

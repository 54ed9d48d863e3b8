"""Load a run, score text, and sample with a cache.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scaling
from scaling.config import load as config_lib
from scaling.data import tokenizers
from scaling.export import loaded, sample
from scaling.models import decode
from scaling.programs.step_functions import StepFunctions
from scaling.utils.errors import UserError
from tests.commands.common import assert_refused, call
from tests.common import TINY, run_python

KINDS = {
    "grouped": {"model.heads": 4, "model.kv_heads": 2, "model.qk_norm": True, "model.experts": 2},
    "learned": {"model.positions": "learned", "model.norm": "layernorm", "model.bias": "all"},
    "lstm": {"model.kind": "lstm"},
    "lru": {"model.kind": "lru"},
    "mlp": {"model.kind": "mlp"},
}


@pytest.fixture
def run(make_run):
    return scaling.load(make_run())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_with_a_cache_equal_those_without(kind):
    config = config_lib.with_values(
        config_lib.load("configs/mini.py"), {**TINY, "model.depth": 1, **KINDS[kind]}
    )
    functions = StepFunctions(loaded.resolved(config))
    params = jax.jit(functions.init)(1)["params"]
    tokens_BT = np.random.default_rng(0).integers(1, 256, (2, 12)).astype(np.int32)
    pad_B = np.array([0, 3])
    whole = jax.jit(lambda params, tokens: functions.as_model(params)(tokens))
    shifted_BT = np.stack([np.roll(row, -pad) for row, pad in zip(tokens_BT, pad_B, strict=True)])
    expected_BTV = np.asarray(whole(params, shifted_BT))

    @jax.jit
    def cached(params):
        model = functions.as_model(params)
        blocks, cache = decode.layers(model), decode.empty(config.model, 2, 16)
        logits_BV, cache = decode.extend(model, blocks, tokens_BT[:, :10], cache, 0, pad_B)
        found = [logits_BV]
        for t in (10, 11):
            new_B1 = tokens_BT[:, t : t + 1]
            logits_BV, cache = decode.extend(model, blocks, jnp.asarray(new_B1), cache, t, pad_B)
            found.append(logits_BV)
        return jnp.stack(found, axis=1)

    found_B3V = cached(params)
    for b, pad in enumerate(pad_B):
        expected_3V = expected_BTV[b, 9 - pad : 12 - pad]
        assert np.abs(expected_3V).max() > 0.5
        np.testing.assert_allclose(found_B3V[b], expected_3V, atol=1e-5)


def test_a_text_depends_on_its_prompt_its_number_and_the_seed(run):
    options = dict(max_tokens=12, temperature=1.0, top_p=0.9, seed=3)
    both = run.generate(["ab", "def f("], n=2, **options)
    assert both == run.generate(["ab", "def f("], n=2, **options)
    assert both[2:] == run.generate("def f(", n=2, **options)
    assert both[0] != both[1]
    assert both[0] != run.generate("ab", **{**options, "seed": 4})[0]
    greedy = [run.generate("ab", max_tokens=5, temperature=0.0, seed=s) for s in (0, 1)]
    assert greedy[0] == greedy[1]
    assert run._sampler._loop._cache_size() == 3, "one program for each shape"


def test_the_likeliest_tokens_follow_the_logits(run):
    text = run.generate("ab", max_tokens=3, temperature=0.0)[0]
    ids = [0, *b"ab"]
    for _ in range(3):
        ids.append(int(run.logits([ids])[0, -1].argmax()))
    assert text == run.tokenizer.decode(ids[3:])


def test_nucleus_keeps_the_fewest_tokens_with_the_share():
    logits_BV = jnp.log(jnp.array([[0.5, 0.1, 0.3, 0.1]]))
    kept = [np.isfinite(sample.nucleus(logits_BV, p)[0]).tolist() for p in (0.4, 0.6)]
    assert kept == [[True, False, False, False], [True, False, True, False]]


def test_the_loss_is_the_mean_over_windows(run):
    text = "x = 1\n" * 60
    ids = np.array([0, *text.encode()])
    parts = [ids[i : i + 33] for i in range(0, len(ids) - 1, 32)]
    losses = [
        -np.asarray(jax.nn.log_softmax(run.logits([p[:-1]])[0]))[np.arange(len(p) - 1), p[1:]]
        for p in parts
    ]
    assert run.loss(text) == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)
    with pytest.raises(UserError, match="empty"):
        run.loss("")


def test_a_run_with_bpe_loads_in_another_process_on_other_devices(make_run, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizers.train_bpe(["def f(x): return x"] * 20, 260, path)
    folder = make_run({"data.tokenizer": "bpe", "data.vocab_size": 260}, "bpe", path)
    code = """
import sys, jax, numpy as np, scaling
jax.config.update("jax_num_cpu_devices", 4)
mesh = jax.make_mesh((4,), ("data",))
run = scaling.load(sys.argv[1], mesh=mesh)
assert any(not x.is_fully_replicated for x in jax.tree.leaves(run.params))
print(run.loss("def f(x)"), np.abs(run.logits(np.arange(8)[None])).max())
"""
    done = run_python(code, str(folder))
    assert done.returncode == 0, done.stderr
    here = scaling.load(folder)
    found = [here.loss("def f(x)"), np.abs(here.logits(np.arange(8)[None])).max()]
    np.testing.assert_allclose([float(x) for x in done.stdout.split()], found, rtol=1e-5)
    assert here.tokenizer.decode(here.tokenizer.encode_batch(["def f(x)"])[0]) == "def f(x)"
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="keeps no tokenizer"):
        here = scaling.load(folder).tokenizer


def test_sample_prints_prompt_and_continuation(make_run, capsys):
    folder = make_run()
    code, out, _ = call(capsys, "sample", str(folder), "--prompt=ab", "--max_tokens=4", "--json")
    assert code == 0 and '"prompt": "ab"' in out


def test_bad_input_ends_with_one_line(make_run, tmp_path, capsys):
    folder = make_run()
    assert_refused(capsys, f"sample {folder} --prompt={'a' * 40}", "41 tokens, but the context")
    assert_refused(capsys, f"sample {folder} --max_tokens=90", "the most is 32")
    assert_refused(capsys, f"sample {folder} --top_p=0", "top_p=0")
    assert_refused(capsys, f"sample {tmp_path / 'nothing'}", "no such folder")
    (tmp_path / "empty").mkdir()
    assert_refused(capsys, f"sample {tmp_path / 'empty'}", "holds no run")
    for path in (folder / "checkpoints" / "0").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    code, out, err = call(capsys, "sample", str(folder))
    assert (code, out) == (2, "") and "no intact checkpoint" in err.splitlines()[-1]

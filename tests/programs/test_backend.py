"""What accelerators would run: lowered for them here, and never run on one.

`lower(lowering_platforms=...)` writes a program for a platform that is not there; XLA's own
compilers for it, and with them what a kernel does on the chip, are out of reach.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from scaling.config import load as config_lib
from scaling.models import fused, ops
from scaling.programs import ahead_of_time, train_step
from scaling.programs import backend as accelerator
from scaling.training import loop as train_lib
from scaling.training.checkpoint import Checkpoints
from scaling.utils.errors import UserError

PLATFORM = {"gpu": "cuda", "tpu": "tpu"}


@pytest.fixture
def on(monkeypatch):
    """`on("gpu")` and `on("tpu")`: choices and traces are that backend's from there on.

    Two answers are made up, that cuDNN is installed and how large a head it takes: jax asks the
    machine for both while it traces, before it lowers for another.
    """

    def backend(name: str) -> None:
        monkeypatch.setattr(jax, "default_backend", lambda: name)
        monkeypatch.setattr(accelerator, "cudnn_head_dim", lambda: 128)
        monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91100)

    train_step.clear_caches()
    yield backend
    train_step.clear_caches()


@pytest.fixture
def narrow(config):
    """A tiny run in bfloat16 with float32 masters, of a shape that cuDNN and splash take."""
    values = {
        "model.dtype": "bfloat16", "model.width": 64, "model.head_dim": 64, "model.depth": 1,
        "model.mlp": "swiglu", "model.mlp_width": 32, "model.qk_norm": True, "data.seq_len": 128,
        "train.tokens": 128 * 4 * 16, "optim.warmup_fraction": 0.0,
    }  # fmt: skip
    return config_lib.with_values(config, values)


def lowered(config, backend: str, runs: int = 1) -> str:
    programs = train_step.programs(config, runs)
    traced = programs.jitted.trace(*ahead_of_time.arguments(config, programs))
    return traced.lower(lowering_platforms=(PLATFORM[backend],)).as_text()


@pytest.mark.parametrize(
    ("backend", "forward", "backward"),
    [
        ("gpu", "@__cudnn$fmhaSoftmax(", "@__cudnn$fmhaSoftmaxBackward("),
        ("tpu", "@tpu_custom_call(", "splash_mha_dkv"),
    ],
)
def test_auto_takes_the_fused_kernel_and_lowers(
    on, narrow, monkeypatch, backend, forward, backward
):
    on(backend)
    assert forward in lowered(narrow, backend, runs=2), "runs side by side"
    two = lowered(narrow, backend)
    # jax brings a rule by which the compiler splits cuDNN's calls; splash's are split as they are
    # traced
    assert two.count("@CustomSPMDPartitioning(" if backend == "gpu" else forward) >= 2
    plain = config_lib.with_values(narrow, {"model.attention": "plain"})
    assert "custom_call @" not in lowered(plain, backend).replace("custom_call @Sharding", "")
    wide = config_lib.with_values(narrow, {"model.dtype": "float32"})
    assert ("custom_call @" in lowered(wide, backend)) == (backend == "tpu"), "cuDNN: no float32"
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: one)
    train_step.clear_caches()
    text = lowered(narrow, backend)
    assert forward in text and backward in text


def test_splash_is_cut_by_hand_over_heads_and_batch(on, narrow):
    """The compiler splits no Mosaic kernel: each device calls it on its own rows B and heads H."""
    on("tpu")
    for values, shape in (
        ({"parallel.data": 1, "parallel.tensor": 2}, "8x1x128x64"),
        (
            {"parallel.data": 1, "parallel.tensor": 2, "model.heads": 4, "model.kv_heads": 2},
            "8x1x128x64",  # of keys and values
        ),
        ({"train.accumulate": 2}, "2x2x128x64"),
        (
            {
                "parallel.data": 1,
                "parallel.fsdp": 2,
                "model.remat": "block",
                "model.scan_layers": True,
            },
            "4x2x128x64",
        ),
    ):
        values = {"model.width": 128, "train.batch_size": 8, **values}
        text = lowered(config_lib.with_values(narrow, values), "tpu")
        calls = [line for line in text.splitlines() if "@tpu_custom_call(" in line]
        assert calls and all(f"tensor<{shape}xbf16>" in line for line in calls)


@pytest.mark.parametrize(
    ("T", "causal", "heads"), [(128, True, 2), (384, True, 1), (256, False, 1)]
)
def test_splash_attention_and_its_gradient(T, causal, heads):
    """In Pallas's interpreter, on a CPU."""
    q, k, v, g = (
        jax.random.normal(jax.random.key(i), (2, T, H, 64), jnp.float32)
        for i, H in enumerate((heads, 1, 1, heads))
    )

    def graded(attention):
        return jax.jit(lambda *a: (attention(*a), jax.vjp(attention, *a)[1](g)))(q, k, v)

    found = graded(lambda *a: fused.splash_attention(*a, interpret=True, causal=causal))
    expected = graded(lambda *a: ops.attention(*a, "plain", causal))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5), found, expected)


# ---- what a kernel does not take


@pytest.mark.parametrize(
    ("backend", "values", "said"),
    [
        ("cpu", {"model.attention": "cudnn"}, "needs an NVIDIA GPU .* not cpu; choose 'auto'"),
        ("gpu", {"model.attention": "splash"}, "needs a TPU, not gpu"),
        ("gpu", {"model.attention": "cudnn", "model.dtype": "float32"},
         "config.model.dtype='float32'"),
        (
            "gpu",
            {"model.attention": "cudnn", "model.head_dim": 4},
            "config.model.head_dim=4: .* multiples of 8 up to 128; .* config.model.width=64 is 8$",
        ),
        (
            "gpu",
            {"model.attention": "cudnn", "model.width": 256, "model.head_dim": 256},
            "config.model.head_dim=256: .* is 128$",
        ),
        ("tpu", {"model.attention": "splash", "model.head_dim": 32}, "head_dim=32: .*=64 is 64$"),
        (
            "tpu",
            {"model.attention": "splash", "model.width": 32, "model.head_dim": 32},
            "head_dim=32: .* none divides config.model.width=32",
        ),
        ("tpu", {"model.attention": "splash", "data.seq_len": 200},
         "seq_len=200: .* nearest is 256$"),
    ],
)  # fmt: skip
def test_what_a_kernel_does_not_take_is_refused_in_one_line(on, narrow, backend, values, said):
    on(backend)
    with pytest.raises(UserError, match=said) as refused:
        train_step.programs(config_lib.with_values(narrow, values))
    assert "\n" not in str(refused.value)
    auto = config_lib.with_values(narrow, {**values, "model.attention": "auto"})
    taken = accelerator.choose(auto, {"data": 1}).attention
    asked = values["model.attention"]
    assert taken != asked and taken in ("plain", ops.FASTEST["attention"][backend])


def test_cudnn_takes_larger_heads_from_hopper_on_and_none_before_ampere(monkeypatch):
    @dataclasses.dataclass
    class Client:
        platform_version: str

    @dataclasses.dataclass
    class Device:
        compute_capability: str
        client: Client

    def largest(capability: str, version: str = "cuda 13000") -> int:
        device = Device(capability, Client(version))
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        return accelerator.cudnn_head_dim()

    assert [largest(c) for c in ("7.5", "8.0", "9.0", "12.0")] == [0, 128, 256, 256]
    assert largest("gfx942", "rocm 70000") == 0


# ---- precision


def operations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner)


def of_types(config) -> tuple[Counter, set]:
    """Products by (left, right, result), and the types within norms, softmax and loss."""
    programs = train_step.programs(config)
    products: Counter = Counter()
    sensitive = set()
    traced = programs.jitted.trace(*ahead_of_time.arguments(config, programs))
    for equation in operations(traced.jaxpr.jaxpr):
        types = [str(v.aval.dtype) for v in (*equation.invars, *equation.outvars)]
        if equation.primitive.name == "dot_general":
            products[tuple(types)] += 1
        if equation.primitive.name in ("exp", "log", "rsqrt", "sqrt", "reduce_sum", "reduce_max"):
            sensitive |= set(types)
    return products, sensitive - {"int32"}


@pytest.mark.parametrize("matmul", ["flat", "plain"])
@pytest.mark.parametrize("attention", ["chunked", "plain"])
def test_bfloat16_is_that_of_products_and_nothing_that_adds_up(narrow, matmul, attention):
    asked = {"model.matmul": matmul, "model.attention": attention}
    products, sensitive = of_types(config_lib.with_values(narrow, asked))
    bf16, f32 = "bfloat16", "float32"
    assert sensitive == {f32}
    # 6 matrices, each forward and twice backward; attention's logits, its values, and the two
    # gradients of each, in 4 chunks of 32 queries
    expected = {(bf16, bf16, bf16): 6 * 3, (bf16, bf16, f32): 4 * 6}
    if attention == "plain":  # jax.nn's: the gradients of its logits stay float32 in their products
        expected = {(bf16, bf16, bf16): 6 * 3 + 3, (bf16, bf16, f32): 1, (f32, bf16, f32): 2}
    assert products == expected
    state = train_step.programs(narrow).state_like
    assert {x.dtype.name for x in jax.tree.leaves(state) if x.ndim} == {f32}


def test_chunked_attention_in_bfloat16_is_as_near_to_float32_as_the_plain_form():
    args = [jax.random.normal(jax.random.key(i), (2, 96, 2, 32), jnp.float32) for i in range(4)]

    def graded(how, dtype):
        *qkv, g = (a.astype(dtype) for a in args)
        attention = functools.partial(ops.attention, form=how)
        both = jax.jit(lambda *qkv: (attention(*qkv), *jax.vjp(attention, *qkv)[1](g)))
        return [np.asarray(x, np.float32) for x in both(*qkv)]

    exact = graded("plain", jnp.float32)

    def distance(how):
        found = graded(how, jnp.bfloat16)
        return [
            np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, exact, strict=True)
        ]

    for chunked, plain in zip(distance("chunked"), distance("plain"), strict=True):
        assert plain < 0.01 and chunked < 0.01 and chunked < 1.5 * plain


# ---- overlap


def test_flags_are_those_of_the_backend_in_use_and_never_the_users(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
    hide = "xla_gpu_enable_latency_hiding_scheduler"
    assert accelerator.overlap("auto", "gpu", 8) == {hide: True}
    for choice, backend, n_devices in (
        ("none", "gpu", 8), ("auto", "gpu", 1), ("auto", "cpu", 8), ("auto", "tpu", 8),
    ):  # fmt: skip
        assert accelerator.overlap(choice, backend, n_devices) == {}
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=elsewhere --{hide}=false")
    assert accelerator.overlap("auto", "gpu", 8) == {}


def test_this_jaxlib_knows_the_flags_of_gpus(on, narrow, monkeypatch):
    """Every jaxlib parses them, and refuses what it does not know."""
    small = jax.jit(lambda x: x + 1).lower(1.0)
    for name, value in accelerator.OVERLAP["gpu"].items():
        small.compile(compiler_options={name: value})
        with pytest.raises(Exception, match="No such compile option"):
            small.compile(compiler_options={f"{name}_": value})
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    given = []
    jit = jax.jit
    monkeypatch.setattr(jax, "jit", lambda *a, **k: given.append(k) or jit(*a, **k))
    on("gpu")
    train_step.programs(narrow)
    assert accelerator.OVERLAP["gpu"] in [k.get("compiler_options") for k in given]


# ---- off the critical path


@pytest.mark.parametrize("saves", [False, True])
def test_a_batch_is_on_its_way_before_the_last_metrics_are_awaited(
    config, tmp_path, monkeypatch, saves
):
    """b: a batch goes to the devices, t: its dispatch begins, r: its metrics arrive."""
    happened = []

    class Metric:
        def __init__(self, value, dispatch):
            self.value, self.dispatch = value, dispatch

        def __array__(self, dtype=None, copy=None):
            happened.append(f"r{self.dispatch}")
            return np.asarray(self.value)

    real = train_step.programs(config)

    def batch(tokens):
        happened.append(f"b{sum(x[0] == 'b' for x in happened)}")
        return real.batch(tokens)

    def train(*args):
        n = sum(x[0] == "t" for x in happened)
        happened.append(f"t{n}")
        state, metrics = real.train(*args)
        return state, {k: Metric(v, n) for k, v in metrics.items()}

    watched = dataclasses.replace(real, batch=batch, train=train)
    monkeypatch.setattr(train_step, "programs", lambda *a: watched)
    every = 32 * 4 * (16 if saves else 1000)
    changed = config_lib.with_values(config, {"checkpoint.every_tokens": every})
    assert train_lib.train_run(changed, tmp_path / "run").status == "done"
    order = list(dict.fromkeys(happened))
    behind = "b0 t0 b1 t1 r0 b2 t2 r1 r2" if not saves else "b0 t0 r0 b1 t1 r1 b2 t2 r2"
    assert order == behind.split()


def test_a_checkpoint_may_be_waited_for(tmp_path):
    with Checkpoints(tmp_path / "now", keep=2, asynchronous=False) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(3)}, {"elapsed": 0.0})
        assert not checkpoints._manager.is_saving_in_progress()
        assert (tmp_path / "now" / "1").is_dir() and checkpoints.steps() == [1]

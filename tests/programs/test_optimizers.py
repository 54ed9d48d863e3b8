"""Each optimizer's steps by its paper's formula in numpy; runs that learn, the same on a mesh.

Shapes: D model width, H heads, K head size, X query, key and value, F hidden width of the MLP, G
its input matrices, E experts, Z gates, P parts of a complex product, L layers, V vocabulary.
"""

from __future__ import annotations

import functools
from collections import Counter

import jax
import numpy as np
import pytest
from flax import nnx

from scaling.config import load as config_lib
from scaling.models import parameters
from scaling.programs import optim, schedules, train_step
from tests.fields.common import config_of
from tests.fields.test_grids import model_of
from tests.models.test_architectures import KINDS, NO_MATRIX
from tests.models.test_transformer import build

SHAPES = {
    "embedding_VD": (9, 24),
    "blocks": {
        "attention": {"w_DHXK": (2, 24, 2, 3, 4), "w_HKD": (2, 2, 4, 24)},
        "mlp": {"w_DGF": (2, 24, 2, 130), "w_FD": (2, 130, 129)},
        "norm": {"scale": (2, 24)},
    },
}
DECAY, COUNT = 0.1, 3


def infos_of(build):
    """The metadata of the parameters of a model, without building it."""
    return parameters.to_tree(nnx.state(nnx.eval_shape(build), nnx.Param), parameters.info)


@functools.cache
def infos_of_shapes():
    """The metadata of a real model for the parameters of SHAPES."""
    infos = infos_of(lambda: build({"model.mlp": "swiglu"}))
    blocks = infos["blocks"]
    return {
        "embedding_VD": infos["embedding_VD"],
        "blocks": {
            "attention": blocks["attention"], "mlp": blocks["mlp"], "norm": blocks["mlp_norm"],
        },
    }  # fmt: skip


# lr of a run that learns; adamw's are in test_train.py and test_sharding.py
RATES = {"lion": 0.003, "adafactor": 0.1, "muon": 0.01, "sgd": 0.1, "adamh": 0.02}
PARAMETRIZED = {
    "lion": {"model.parametrization": "mup", "model.base_width": 8},
    "adamh": {"model.parametrization": "completep", "model.base_width": 8, "model.base_depth": 1},
}


def drawn(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(0.3, 1.0, shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


GRADS = [drawn(seed) for seed in range(1, COUNT + 1)]


def section(**values):
    base = config_lib.load("configs/base.py")
    return config_lib.with_values(base, {f"optim.{k}": v for k, v in values.items()}).optim


def steps_of(name, params, weight_decay=0.0, **values):
    """The steps of an optimizer for GRADS, as lists by path."""
    transform = optim.optimizer(
        section(name=name, clip=1e9, **values), {"weight_decay": weight_decay}, infos_of_shapes()
    )
    state, found = transform.init(params), []
    for grads in GRADS:
        step_, state = jax.jit(transform.update)(grads, state, params)
        found.append(step_)
    by_path = [dict(jax.tree_util.tree_leaves_with_path(f)) for f in found]
    return {jax.tree_util.keystr(k): [f[k] for f in by_path] for k in by_path[0]}


def leaves(tree):
    return {
        jax.tree_util.keystr(k): np.float64(v) for k, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def history(path):
    return [leaves(g)[path] for g in GRADS]


def adam(gs, b1=0.9, b2=0.95, eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(gs, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        yield (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def lion(gs, b1=0.9, b2=0.95):
    m = 0.0
    for g in gs:
        yield np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g


def sgd(gs, momentum=0.8):
    m = 0.0
    for g in gs:
        m = momentum * m + g
        yield m


def rms(x):
    return np.sqrt(np.mean(x**2))


def adafactor(gs, p):
    """Algorithms 4 and 6 of Shazeer & Stern, on one layer's array."""
    r = c = v = 0.0
    factored = p.ndim == 2 and min(p.shape) >= 128
    for t, g in enumerate(gs, 1):
        decay, square = 1 - t**-0.8, g**2 + 1e-30
        if factored:
            r = decay * r + (1 - decay) * square.sum(axis=1)
            c = decay * c + (1 - decay) * square.sum(axis=0)
            u = g / np.sqrt(np.outer(r, c) / r.sum())
        else:
            v = decay * v + (1 - decay) * square
            u = g / np.sqrt(v)
        yield max(1e-3, rms(p)) * u / max(1.0, rms(u))


def newton_schulz(g):
    """Jordan et al. 2024, five steps."""
    x = g / np.linalg.norm(g)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(gs, momentum=0.95):
    """Nesterov's momentum with bias correction (Dozat 2016), orthogonal, sized as AdamW."""
    m = 0.0
    for t, g in enumerate(gs, 1):
        m = momentum * m + (1 - momentum) * g
        ahead = momentum * m / (1 - momentum ** (t + 1))
        ahead = ahead + (1 - momentum) * g / (1 - momentum**t)
        yield 0.2 * np.sqrt(max(g.shape)) * newton_schulz(ahead)


def single_matrices(name, x):
    """The matrices of a parameter, one after another, written out name by name."""
    layers = list(x)
    if name == "w_DHXK":
        return [w[:, :, i].reshape(len(w), -1) for w in layers for i in range(3)]
    if name == "w_HKD":
        return [w.reshape(-1, w.shape[-1]) for w in layers]
    if name == "w_DGF":
        return [w[:, i] for w in layers for i in range(2)]
    return layers


@pytest.mark.parametrize(("name", "formula"), [("adamw", adam), ("lion", lion), ("sgd", sgd)])
def test_elementwise_optimizers_follow_their_papers_and_decay_matrices(name, formula):
    params = drawn(0)
    values = {"momentum": 0.8} if name == "sgd" else {}
    for path, found in steps_of(name, params, DECAY, **values).items():
        decay = 0 if "scale" in path else DECAY * leaves(params)[path]
        expected = [u + decay for u in formula(history(path))]
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5, err_msg=path)


# The matrix of each weight: letters of its rows, letters of its columns; the others stack matrices.
MATRICES = {
    "w_DHXK": ("D", "HK"), "w_HKD": ("HK", "D"), "w_DGF": ("D", "F"), "w_FD": ("F", "D"),
    "w_EDGF": ("D", "F"), "w_EFD": ("F", "D"), "w_DZS": ("D", "S"), "w_SZS": ("S", "S"),
    "w_DHK": ("D", "HK"), "w_DNXK": ("D", "NK"),
    "w_SD": ("S", "D"), "w_DPS": ("D", "S"), "w_PSD": ("PS", "D"), "w_JDD": ("JD", "D"),
}  # fmt: skip
SIZES = dict(D=129, H=7, N=7, K=20, X=3, F=131, G=2, E=2, Z=4, S=129, P=2, J=2)


def infos_of_weights():
    """Name -> metadata of every weight of every architecture that is a matrix."""
    models = [functools.partial(build, values) for values in ({}, *KINDS.values())]
    found = [jax.tree_util.tree_leaves_with_path(infos_of(model)) for model in models]
    pairs = {path[-1].key: info for leaves_ in found for path, info in leaves_}
    return {name: info for name, info in pairs.items() if info.matrix}


def shapes_of(infos, sizes):
    """The shapes of these weights by the letters of their names, two layers if they are stacked."""
    return {
        name: (2,) * info.stacked + tuple(sizes[letter] for letter in name.removeprefix("w_"))
        for name, info in infos.items()
    }


def in_blocks(infos, tree):
    """A tree of weights as a model has it: stacked ones in blocks, the others at the root."""
    blocks = {name: x for name, x in tree.items() if infos[name].stacked}
    return {"blocks": blocks} | {name: x for name, x in tree.items() if name not in blocks}


def adafactor_by_matrices(name, gs, p):
    """`adafactor` on one layer's array, its second moment factored matrix by matrix."""
    letters = name.removeprefix("w_")
    rows, columns = MATRICES[name]
    axes = [letters.index(rows[0]) + i for i in range(len(rows))]
    axes += (
        [letters.rindex(columns[-1])] if len(columns) == 1 else [letters.index(c) for c in columns]
    )
    axes = [i for i in range(p.ndim) if i not in axes] + axes
    split = len(axes) - len(columns)

    def matrices(x):
        x = x.transpose(axes)
        return x.reshape(-1, int(np.prod(x.shape[split - len(rows) : split])),
                         int(np.prod(x.shape[split:])))  # fmt: skip

    r = c = 0.0
    for t, g in enumerate(gs, 1):
        decay, square = 1 - t**-0.8, matrices(g) ** 2 + 1e-30
        r = decay * r + (1 - decay) * square.sum(axis=2)
        c = decay * c + (1 - decay) * square.sum(axis=1)
        v = r[:, :, None] * c[:, None, :] / r.sum(axis=1)[:, None, None]
        u = (matrices(g) / np.sqrt(v)).reshape(p.transpose(axes).shape)
        u = u.transpose(np.argsort(axes))
        yield max(1e-3, rms(p)) * u / max(1.0, rms(u))


def test_adafactor_factors_every_matrix_whatever_its_axes():
    infos = infos_of_weights()
    assert infos.keys() == MATRICES.keys()
    rng, shapes = np.random.default_rng(0), shapes_of(infos, SIZES)
    params, *grads = (
        {name: rng.normal(0.3, 1.0, shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(COUNT)
    )
    transform = optim.optimizer(
        section(name="adafactor", clip=1e9), {"weight_decay": 0.0}, in_blocks(infos, infos)
    )
    update, state = jax.jit(transform.update), transform.init(in_blocks(infos, params))
    held = sum(x.size for x in jax.tree.leaves(state))
    assert held < 0.03 * sum(x.size for x in params.values()), "not factored"
    steps = []
    for g in grads:
        step, state = update(in_blocks(infos, g), state, in_blocks(infos, params))
        steps.append(step.pop("blocks") | step)
    for name, info in infos.items():
        p, gs = np.float64(params[name]), [np.float64(g[name]) for g in grads]
        layers = range(2) if info.stacked else [...]
        expected = [list(adafactor_by_matrices(name, [g[i] for g in gs], p[i])) for i in layers]
        for t, found in enumerate(steps):
            for i, layer in zip(layers, expected, strict=True):
                np.testing.assert_allclose(
                    found[name][i], layer[t], rtol=2e-4, atol=1e-5, err_msg=name
                )


def test_adafactor_leaves_narrow_matrices_whole_and_never_factors_what_stacks_them():
    infos = infos_of_weights()
    for sizes in (dict(D=64, H=128, K=128, F=512, E=200, S=100), dict(E=200, X=300, G=200, Z=150)):
        shapes = shapes_of(infos, SIZES | sizes)
        like = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
        transform = optim.optimizer(
            section(name="adafactor"), {"weight_decay": 0.0}, in_blocks(infos, infos)
        )
        state = jax.eval_shape(transform.init, in_blocks(infos, like))
        held = {
            path[-1].key: x.shape
            for path, x in jax.tree_util.tree_leaves_with_path(state)
            if any(getattr(key, "name", "") == "v" for key in path)
        }
        for name, shape in shapes.items():
            whole = "D" in sizes  # below 128
            stacked = (2, 1) if infos[name].stacked else (1,)
            assert held[name] == (shape if whole else stacked), name


def test_adafactor_follows_its_paper_layer_by_layer():
    params = drawn(0)
    for path, found in steps_of("adafactor", params).items():
        p, gs = leaves(params)[path], history(path)
        if "blocks" in path:
            layers = [list(adafactor([g[i] for g in gs], p[i])) for i in range(2)]
            expected = [np.stack(both) for both in zip(*layers, strict=True)]
        else:
            expected = list(adafactor(gs, p))
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5, err_msg=path)
    state = optim.optimizer(
        section(name="adafactor"), {"weight_decay": 0.0}, infos_of_shapes()
    ).init(params)
    sizes = {x.shape for x in jax.tree.leaves(state)}
    assert {(2, 130), (2, 129)} <= sizes and (2, 130, 129) not in sizes, "not factored"


def test_muon_makes_each_layers_matrices_orthogonal_and_adam_takes_the_rest():
    params = drawn(0)
    for path, found in steps_of("muon", params, beta1=0.9).items():
        name, gs = path.split("'")[-2], history(path)
        if not name.startswith("w_"):
            np.testing.assert_allclose(found, list(adam(gs)), rtol=2e-4, err_msg=path)
            continue
        by_step = [single_matrices(name, g) for g in gs]
        ours = [single_matrices(name, np.asarray(f)) for f in found]
        for i in range(len(by_step[0])):
            for t, expected in enumerate(muon([matrices_[i] for matrices_ in by_step])):
                np.testing.assert_allclose(ours[t][i], expected, atol=2e-3, err_msg=path)
                if name == "w_FD":  # all but square: its smallest singular values are near 0
                    continue
                one = ours[t][i] / (0.2 * np.sqrt(max(ours[t][i].shape)))
                values = np.linalg.svd(one, compute_uv=False)
                assert values.min() > 0.6 and values.max() < 1.3, path


def test_every_weight_states_its_matrix_by_the_letters_of_its_name():
    models = [functools.partial(build, values) for values in ({}, *KINDS.values())]
    models.append(lambda: model_of(config_of("vision", **{"model.kind": "cnn"})))
    names = set()
    for model in models:
        for path, info in jax.tree_util.tree_leaves_with_path(infos_of(model)):
            name = path[-1].key
            if not name.startswith("w_") or name in NO_MATRIX:
                assert info.matrix is None, name
                continue
            names.add(name)
            letters = name.removeprefix("w_")
            matrix = [letters[i] for axes in info.matrix for i in axes]
            # the rest stacks matrices: query, key and value, inputs, experts, gates and parts
            stacks = Counter(letters) - Counter(matrix)
            assert len(matrix) >= 2 and set(stacks) <= set("XGEZP"), name
            assert len(info.axes) == len(letters) + info.stacked, name
    assert len(names) == 14


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "sgd" else n for n in RATES]
)
def test_each_optimizer_learns_alike_with_its_state_whole_and_split(config, name):
    """Forty steps, data parallel and under fsdp=2, which leaves half the moments on each device."""
    values = {"optim.name": name, "optim.lr": RATES[name], "model.scan_layers": True}
    values |= PARAMETRIZED.get(name, {})
    if name == "adafactor":  # all matrices are factored, though heads are short
        values |= {"model.width": 128, "model.head_dim": 16, "model.mlp_width": 128}
    config = config_lib.with_values(config, values)
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(config).items()}
    K, B, T = config.train.steps_per_dispatch, config.train.batch_size, config.data.seq_len
    tokens_KBT1 = (np.arange(B)[:, None] + 3 * np.arange(T + 1) + np.zeros((K, 1, 1), int)).astype(
        np.uint8
    )
    zero_R = np.zeros(1, np.int32)
    curves = {}
    for mesh in ({}, {"parallel.data": 1, "parallel.fsdp": 2}):
        programs = train_step.programs(config_lib.with_values(config, mesh))
        state, losses = programs.init(0), []
        for first in range(0, 40, K):
            batch = programs.batch(tokens_KBT1[None])
            state, metrics = programs.train(
                state, hyper_R, batch, zero_R + first, zero_R, zero_R + min(K, 40 - first)
            )
            losses += np.asarray(metrics["loss"])[: 40 - first].tolist()
        curves[len(mesh)] = losses
        if mesh:
            large = [x for x in jax.tree.leaves(state["opt"]) if x.size >= 16 * 64]
            assert all(x.addressable_shards[0].data.size == x.size // 2 for x in large)
            assert bool(large) == (name != "adafactor")
    assert curves[0][-1] < curves[0][0] - 1, "nothing was learned"
    rtol = 1e-4 if name in PARAMETRIZED else 1e-3
    np.testing.assert_allclose(curves[2], curves[0], rtol=rtol)

"""Compare the steps of `scaling.programs.optim` with torch's optimizers on the same gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from scaling.config import load as config_lib
from scaling.models.parameters import ParamInfo
from scaling.programs import optim

STEPS, LR, DECAY, CLIP = 20, 0.01, 0.1, 1.0
SHAPES = {"w_FD": (8, 6), "embedding_VD": (5, 6), "scale": (6,)}
INFOS = {
    "w_FD": ParamInfo(("mlp", "embed"), None, decay=True),
    "embedding_VD": ParamInfo(("vocab", "embed"), None, decay=True),
    "scale": ParamInfo(("embed",), None, decay=False),
}


def torch_optimizer(name: str, groups, o) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=LR, betas=(o.beta1, o.beta2), eps=o.eps)
    # torch adds the decay to the gradient and so to the momentum: compared without decay
    return torch.optim.SGD(groups, lr=LR, momentum=o.momentum)


def drawn(seed: int) -> dict[str, np.ndarray]:
    """Arrays by name, some of their norms below CLIP and some above."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.05, 0.5)
    return {k: rng.normal(0, size, s).astype(np.float32) for k, s in SHAPES.items()}


@pytest.mark.parametrize(("name", "decay"), [("adamw", DECAY), ("adamw", 0.0), ("sgd", 0.0)])
def test_parameters_after_each_step_equal_those_of_torch(name, decay):
    base = config_lib.load("configs/base.py", [f"--config.optim.name={name}"])
    section = config_lib.with_values(base, {"optim.clip": CLIP}).optim
    transform = optim.optimizer(section, {"weight_decay": decay}, INFOS)
    params = jax.tree.map(jnp.asarray, drawn(0))
    state = transform.init(params)
    theirs = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in drawn(0).items()}
    groups = [
        {"params": [p for p in theirs.values() if p.dim() == 2], "weight_decay": decay},
        {"params": [theirs["scale"]], "weight_decay": 0.0},
    ]
    optimizer, norms = torch_optimizer(name, groups, section), []
    for seed in range(1, STEPS + 1):
        grads = drawn(seed)
        updates, state = transform.update(grads, state, params)
        params = optim.apply_updates(params, updates, LR, INFOS, "adamw")
        for key, parameter in theirs.items():
            parameter.grad = torch.tensor(grads[key])
        norms.append(torch.nn.utils.clip_grad_norm_(theirs.values(), CLIP).item())
        optimizer.step()
        for key, parameter in theirs.items():
            np.testing.assert_allclose(
                params[key], parameter.detach(), rtol=1e-6, atol=1e-6, err_msg=f"{key}, {seed}"
            )
    assert min(norms) < CLIP < max(norms), "one side of the clipping was not compared"
    assert np.abs(params["scale"] - drawn(0)["scale"]).max() > 0.02, "nothing moved"

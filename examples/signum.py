"""Signum (Bernstein et al. 2018): --config.plugins=signum --config.optim.name=signum."""

import jax
import jax.numpy as jnp
import optax

from scaling.utils.registry import OPTIMIZERS


@OPTIMIZERS.register("signum", width_exponent=-1.0)  # muP: steps of matrices ~ 1 / width
def signum(optim, infos):
    """Return the step before the learning rate: the sign of the momentum, -lr comes later."""
    sign = optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))
    return optax.chain(optax.ema(optim.beta1, debias=False), sign)

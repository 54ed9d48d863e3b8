"""Continue prompts with a trained language model, in one compiled loop over a cache.

Shapes: B rows, P positions of the padded prompts, N tokens to draw, at most,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.models import decode
from scaling.models.transformer import Transformer
from scaling.programs.step_functions import StepFunctions
from scaling.utils.errors import UserError

LEAST = 16  # positions of the shortest shape; longer ones double


class Sampler:
    """Continues prompts with one model; a program is compiled for each pair of padded lengths."""

    def __init__(self, functions: StepFunctions, params: Any, tokenizer: Tokenizer):
        self.functions, self.params, self.tokenizer = functions, params, tokenizer
        self.context = functions.config.data.seq_len
        self._loop = jax.jit(self._draw, static_argnums=0)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        max_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        n: int = 1,
    ) -> list[str]:
        """Return n texts that continue each prompt, those of the first prompt first.

        A text ends at a separator, after `max_tokens`, or where the context is full; None takes the
        rest of the context. Temperature 0 takes the likeliest token. `top_p` draws from the fewest
        tokens that hold this share of the probability. A text depends on its prompt, its number and
        the seed, not on the other prompts. Raises UserError if a value or a prompt does not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        _check(max_tokens, temperature, top_p, n)
        separator = self.tokenizer.separator
        ids = [[separator, *found] for found in self.tokenizer.encode_batch(prompts)]
        longest = max(len(one) for one in ids)
        new = self._room(longest, max_tokens)
        P = self._shape(longest)
        rows = [(one, number) for one in ids for number in range(n)]
        tokens_BP = np.full((len(rows), P), separator, np.int32)
        for row, (one, _) in enumerate(rows):
            tokens_BP[row, P - len(one) :] = one
        pad_B = np.array([P - len(one) for one, _ in rows], np.int32)
        number_B = np.array([number for _, number in rows], np.uint32)
        drawn_BN = self._loop(
            self._shape(new), self.params, tokens_BP, pad_B, number_B, np.uint32(seed),
            np.int32(new), np.float32(temperature), np.float32(top_p),
        )  # fmt: skip
        texts = []
        for drawn_N in np.asarray(drawn_BN)[:, :new]:
            ends = np.flatnonzero(drawn_N == separator)
            length = ends[0] if len(ends) else new
            texts.append(self.tokenizer.decode(drawn_N[:length].tolist()))
        return texts

    def _room(self, prompt: int, max_tokens: int | None) -> int:
        """Return the tokens to draw. Raises UserError if they do not fit behind the prompt."""
        rest = self.context + 1 - prompt
        context = f"the context has config.data.seq_len={self.context:,}"
        if rest < 1:
            raise UserError(f"the prompt: {prompt:,} tokens, but {context}; shorten it")
        if max_tokens is not None and max_tokens > rest:
            raise UserError(
                f"max_tokens={max_tokens}: {context} and room for {rest} after the prompt; the "
                f"most is {rest}"
            )
        return rest if max_tokens is None else max_tokens

    def _shape(self, length: int) -> int:
        """Return the length to compile for: a power of two, or the context's."""
        return min(self.context, max(LEAST, 1 << (length - 1).bit_length()))

    def _draw(self, N, params, tokens_BP, pad_B, number_B, seed, new, temperature, top_p):
        """Return `drawn_BN`, separators after the end of a row."""
        model = self.functions.as_model(params)
        assert isinstance(model, Transformer)
        blocks, separator = decode.layers(model), self.tokenizer.separator
        B, P = tokens_BP.shape
        cache = decode.empty(self.functions.config.model, B, P + N)
        keys_B = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(seed), k))(number_B)
        logits_BV, cache = decode.extend(model, blocks, tokens_BP, cache, 0, pad_B)
        drawn_BN = jnp.full((B, N), separator, jnp.int32)

        def going(carry):
            i, _, ended_B, _, _ = carry
            return (i < new) & ~ended_B.all()

        def step(carry):
            i, logits_BV, ended_B, cache, drawn_BN = carry
            drawn_B = sampled(logits_BV, keys_B, i, temperature, top_p)
            drawn_B = jnp.where(ended_B, separator, drawn_B)
            drawn_BN = jax.lax.dynamic_update_slice(drawn_BN, drawn_B[:, None], (0, i))
            logits_BV, cache = decode.extend(model, blocks, drawn_B[:, None], cache, P + i, pad_B)
            return i + 1, logits_BV, ended_B | (drawn_B == separator), cache, drawn_BN

        start = (jnp.int32(0), logits_BV, jnp.zeros(B, bool), cache, drawn_BN)
        return jax.lax.while_loop(going, step, start)[4]


def _check(max_tokens: int | None, temperature: float, top_p: float, n: int) -> None:
    for name, value in (("max_tokens", max_tokens), ("n", n)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} is below 1")
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature={temperature} should be 0 or more")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p} should be above 0 and at most 1")


def sampled(logits_BV, keys_B, i, temperature, top_p):
    """Return the i-th token of each row."""

    def draw():
        scaled_BV = logits_BV / temperature
        kept_BV = jax.lax.cond(top_p < 1, lambda x: nucleus(x, top_p), lambda x: x, scaled_BV)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
        return jax.vmap(jax.random.categorical)(keys, kept_BV).astype(jnp.int32)

    return jax.lax.cond(
        temperature > 0, draw, lambda: jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    )


def nucleus(logits_BV, top_p):
    """Return logits without those outside the fewest tokens that hold `top_p` (Holtzman 2020)."""
    sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
    p_BV = jax.nn.softmax(sorted_BV)
    before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV
    count_B1 = (before_BV < top_p).sum(axis=-1, keepdims=True)
    least_B1 = jnp.take_along_axis(sorted_BV, count_B1 - 1, axis=-1)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)

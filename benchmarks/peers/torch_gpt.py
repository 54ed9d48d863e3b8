"""Train nanoGPT's architecture with its training step on torch, eager or compiled, on the CPU.

    python -m benchmarks.peers.torch_gpt --size=S --mode=compiled --tokens=tokens.npy

Blocks are pre-norm with LayerNorm, learned positions, GELU, a tied head, no biases and no dropout.
Attention is torch's fused one. AdamW is nanoGPT's choice on CPUs, torch's default. Modes that end
in "fused" take the fused form. nanoGPT takes it on CUDA only; it is the fastest on CPUs, too.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import turns
from benchmarks.sizes import SIZES, Size

MODES = ("eager", "compiled", "eager fused", "compiled fused")


class Block(nn.Module):
    """Compute x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, size: Size):
        super().__init__()
        D, F_ = size.width, size.mlp_width
        self.heads = size.heads
        self.attention_norm = nn.LayerNorm(D, bias=False)
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        self.out = nn.Linear(D, D, bias=False)
        self.mlp_norm = nn.LayerNorm(D, bias=False)
        self.up = nn.Linear(D, F_, bias=False)
        self.down = nn.Linear(F_, D, bias=False)

    def forward(self, x_BTD):
        B, T, D = x_BTD.shape
        q, k, v = self.qkv(self.attention_norm(x_BTD)).split(D, dim=2)
        q, k, v = (z.view(B, T, self.heads, D // self.heads).transpose(1, 2) for z in (q, k, v))
        o_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(o_BHTK.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self.down(F.gelu(self.up(self.mlp_norm(x_BTD))))


class GPT(nn.Module):
    """Compute the mean cross-entropy of `target_BT` given `tokens_BT`."""

    def __init__(self, size: Size):
        super().__init__()
        self.tokens = nn.Embedding(size.vocab, size.width)
        self.positions = nn.Embedding(size.seq_len, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                into_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * size.depth) ** (0.5 * into_residual))

    def forward(self, tokens_BT, target_BT):
        positions_T = torch.arange(tokens_BT.shape[1])
        x_BTD = self.tokens(tokens_BT) + self.positions(positions_T)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = F.linear(self.norm(x_BTD), self.tokens.weight)
        return F.cross_entropy(logits_BTV.view(-1, logits_BTV.shape[-1]), target_BT.reshape(-1))


def main(argv: list[str]) -> int:
    args = turns.arguments(argv, modes=MODES)
    size = SIZES[args.size]
    torch.manual_seed(0)
    model = GPT(size)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    other = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": turns.WEIGHT_DECAY},
            {"params": other, "weight_decay": 0.0},
        ],
        lr=args.lr, betas=turns.BETAS, eps=turns.EPS, fused=True if "fused" in args.mode else None,
    )  # fmt: skip
    loss_of = torch.compile(model) if "compiled" in args.mode else model
    stream = turns.batches(args.tokens, size)

    def train(steps: int) -> float:
        for _ in range(steps):
            tokens_BT1 = torch.from_numpy(next(stream)).long()
            loss = loss_of(tokens_BT1[:, :-1], tokens_BT1[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), turns.CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return turns.serve(train, args.steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

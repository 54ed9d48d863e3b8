"""`scaling sample`: continue a prompt with a trained language model."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, workdir_flags

HELP = "continue a prompt with a trained language model"
EXAMPLE = """\
scaling sample results/llama --prompt=import
scaling sample W/runs/ID --prompt=def --temperature=0.8 --top_p=0.95 --n=4 --seed=1"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `sample`."""
    parser.add_argument("run_folder", metavar="RUN", help="folder of a run, or W with one run")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="text to continue")
    for name, default, type_, text in (
        ("temperature", 1.0, flag_types.number, "divides the logits; 0 takes the likeliest token"),
        ("top_p", 1.0, flag_types.number, "share of the probability to draw from"),
        ("max_tokens", None, flag_types.count, "tokens to draw; without it to the context's end"),
        ("seed", 0, flag_types.whole_number, "seeds the draws"),
        ("n", 1, flag_types.count, "texts to draw"),
    ):
        parser.add_argument(f"--{name}", type=type_, default=default, metavar="N", help=text)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the prompt with its continuations."""
    workdir_flags.refuse_overrides(args, "samples a trained run, which has its own config")

    from scaling.export import loaded
    from scaling.utils import machine

    machine.enable_compilation_cache()
    options = {k: getattr(args, k) for k in ("max_tokens", "temperature", "top_p", "seed", "n")}
    model = loaded.load(args.run_folder)
    texts = model.generate(args.prompt, **options)
    rows = [{"prompt": args.prompt, "text": text} for text in texts]
    output.show(
        args,
        output.Output(
            {"run": model.folder.name, "step": model.step, **options, "samples": rows},
            [output.Table("samples", rows)],
            text=[args.prompt + text for text in texts],
        ),
    )
    return 0

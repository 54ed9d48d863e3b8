"""Every config key once: its default, unit, range and meaning, and what depends on it.

A study is a strict overlay on `get_config()`. Durations are tokens, losses nats per token, budgets
training FLOPs of a whole run. The unit "1" is that of a ratio. None stands for "off" or "unset",
"auto" for "the program chooses".

fields: the fields of data that use the key; all do if it states none.
program: the compiled program depends on the key. Runs that agree in these keys share a program.
names: "run" (the default): a change renames the run and its sweep; "sweep": it renames the sweep;
    "nothing": it renames neither.
since: schema that brought the key. A later key names a run only where it differs from its default,
    so that older runs keep their names. A changed default would rename them.
later: the same of a key that names sweeps: it came after sweeps of its schema.
old: what files and hashes hold for the default, still accepted everywhere (config/key.py).
"""

from scaling.config.key import (
    ANY,
    AT_MOST_100_000,
    AT_MOST_1000,
    AT_MOST_4096,
    FRACTION,
    LESS_THAN_ONE,
    MLPS,
    MORE_THAN_ONE,
    NOT_NEGATIVE,
    OPTIMIZERS,
    POSITIVE,
    POSITIVE_FRACTION,
    SCHEDULES,
    SECONDS,
    SEED,
    SIZE_OR_REST,
    UP_TO_1000,
    Section,
    choice,
    defaults,
    items,
    number,
    numbers,
    switch,
    text,
    whole,
    wholes,
)

# one or two lines per key
# fmt: off
LANGUAGE, VISION, SPEECH, RECOMMEND = ("language",), ("vision",), ("speech",), ("recommend",)
LABELLED = VISION + SPEECH

c = Section()
c.name = text("base", "slug of the study, for titles and the workdir's sweep.json", names="sweep")
c.seed = whole(0, "seed", SEED, "seeds the parameters and the data order of a run")
c.plugins = items((), "modules that register parts, see docs/extending.md", names="run",
    program=True, since=2, later=True)

c.model = Section(program=True)
c.model.kind = choice("transformer", "transformer | mlp | cnn | lstm | lru",
    "kind of block, see models/block.py", since=2)
c.model.depth = whole(2, "blocks", POSITIVE, "number of blocks")
c.model.width = whole(64, "channels", POSITIVE,
    "model width D; of a transformer a multiple of head_dim")
c.model.head_dim = whole(16, "channels", POSITIVE,
    "transformer: size of a head; even if positions are rotary")
c.model.heads = whole(None, "heads", POSITIVE,
    "transformer: query heads; None is width / head_dim", since=2, old=0)
c.model.kv_heads = whole(None, "heads", POSITIVE,
    "transformer: key-value heads, shared by groups of query heads; None is one for each", since=2,
    old=0)
c.model.mlp_width = whole(256, "channels", POSITIVE,
    "hidden width F of the MLP (per matrix, also for swiglu)")
c.model.mlp = choice("relu2", "gelu | swiglu | relu2", "activation of the MLP",
    registry=MLPS)
c.model.experts = whole(0, "MLPs", NOT_NEGATIVE,
    "mixture of that many MLPs in place of each; 0 is dense", since=2)
c.model.experts_per_token = whole(2, "MLPs", POSITIVE, "experts per token", since=2)
c.model.balance = number(0.01, "1", NOT_NEGATIVE,
    "weight of the load-balance loss, see models/experts.py", since=2)
c.model.kernel = whole(7, "taps", POSITIVE, "cnn: taps along each axis; odd", since=2)
c.model.window = whole(8, "tokens", POSITIVE, "mlp: tokens that a position sees", since=2)
c.model.norm = choice("rmsnorm", "rmsnorm | layernorm",
    "norm before each sublayer; layernorm has a bias only with model.bias")
c.model.bias = choice("none", "none | qkv | all",
    "transformer: qkv as in Qwen2; all as in GPT-2, with those of layernorm", since=2)
c.model.parametrization = choice("sp", "sp | mup | completep",
    "how initial values and steps follow width and depth, see models/parametrization.py", since=2)
c.model.base_width = whole(64, "channels", POSITIVE, "mup, completep: width that equals sp",
    since=2)
c.model.base_depth = whole(2, "blocks", POSITIVE, "completep: depth that equals sp", since=2)
c.model.base_head_dim = whole(None, "channels", POSITIVE,
    "mup, completep: head size at base_width; None is head_dim", since=2, old=0)
c.model.norm_eps = number(1e-6, "1", POSITIVE, "added to the variance inside the norms")
c.model.patch_height = whole(4, "pixels, frames", POSITIVE, "height of a patch of a grid", since=2)
c.model.patch_width = whole(4, "pixels, bands", POSITIVE, "width of a patch of a grid", since=2)
c.model.positions = choice("rotary", "rotary | learned",
    "rotary is in attention; other kinds then have none")
c.model.rope_base = number(10000.0, "1", POSITIVE, "base of the rotary frequencies")
c.model.qk_norm = switch(False, "transformer: RMSNorm on queries and keys, per head")
c.model.tied_head = switch(False, "the head is the transposed embedding")
c.model.dtype = choice("float32", "float32 | bfloat16", "type of activations and matrix products")
c.model.param_dtype = choice("float32", "float32 | bfloat16",
    "type of parameters and optimizer state")
c.model.remat = choice("none", "none | block | dots",
    "what the backward pass recomputes; dots: all but matrix products", names="sweep")
c.model.scan_layers = switch(False, "scans blocks: 8 or more compile faster", names="sweep")
c.model.matmul = choice("auto", "auto | plain | flat", "see models/ops.py", names="sweep")
c.model.loss_chunk = whole("auto", "positions", POSITIVE,
    "positions whose logits exist at a time; None takes all, auto goes by vocab_size",
    old={"auto": -1, None: 0}, names="sweep", since=2)
c.model.attention = choice("auto", "auto | plain | chunked | cudnn | splash",
    "implementation of attention, see docs/accelerators.md", names="sweep")

c.data = Section()
c.data.field = choice("language", "language | vision | speech | recommend", "what the data are",
    program=True, since=2)
# embedded, or a TFDS name such as "c4/en"; language: text, jsonl, parquet, hf, text_folder,
# debian/english; vision: digits, debian/fashion_mnist, image_folder; speech: debian/festvox_ru,
# audio_folder; recommend: python_identifiers, installed_identifiers, interaction_table
c.data.name = text("embedded", "source of the data")
c.data.path = text(None, "file, folder, glob, or several with commas; or root of debian/...",
    several=True, names="nothing", old="")
c.data.pattern = text(None, "files of a folder; None goes by data.name", old="*.txt")
c.data.text_key = text("text", "TFDS, jsonl, parquet, hf: what holds the text, such as body.text")
c.data.separator = text(None, "text: blank_line, re:REGEX or a text cuts files; None: whole",
    fields=LANGUAGE, since=2, old="")
c.data.errors = choice("strict", "strict | replace | skip", "what is no text, see docs/data.md",
    fields=LANGUAGE, since=2)
c.data.train_split = text("train", "TFDS: split to train on")
# recommend: None holds out the last item of each user, "users" valid_fraction of the users, whole
c.data.valid_split = text(None,
    "TFDS: split to validate on; None holds out documents of train_split", old="")
c.data.valid_fraction = number(0.05, "1", FRACTION,
    "share of documents, or users, held out (by a hash of each)")
c.data.split_seed = whole(0, "seed", NOT_NEGATIVE, "draws other held-out documents",
    fields=LANGUAGE, since=2, later=True)
# steps on documents before all else, see scaling/data/text_steps.py
c.data.clean = switch(False, "Unicode NFC", fields=LANGUAGE, since=2)
c.data.min_chars = whole(0, "characters", NOT_NEGATIVE, "removes shorter documents",
    fields=LANGUAGE, since=2)
c.data.max_chars = whole(None, "characters", POSITIVE, "removes longer documents", fields=LANGUAGE,
    since=2, old=0)
c.data.min_letters = number(0.0, "1", FRACTION, "least share of letters, digits and space",
    fields=LANGUAGE, since=2)
c.data.dedupe = choice("none", "none | exact | near | split",
    "removes duplicates; split keeps near ones on one side", fields=LANGUAGE, since=2)
c.data.near_threshold = number(0.8, "1", POSITIVE_FRACTION,
    "near, split: least Jaccard index of runs of 5 words", fields=LANGUAGE, since=2)
c.data.tokenizer = choice("bytes", "bytes | bpe", "tokenizer of text")
c.data.tokenizer_path = text(None,
    "bpe: a tokenizer.json to load; None trains one on the train split", fields=LANGUAGE, old="")
c.data.vocab_size = whole(256, "tokens", POSITIVE,
    "bytes: 256; bpe: size to train, or of the loaded tokenizer", program=True)
c.data.seq_len = whole(128, "tokens", POSITIVE, "context T", program=True)
c.data.unique_tokens = whole(None, "tokens", POSITIVE,
    "trains on only this many tokens, or examples", fields=LANGUAGE + LABELLED, old=0)
c.data.hash = text(None, "expected SHA-256 of the documents, or its first digits", old="")
c.data.cache_dir = text(None, "prepared data; None is $SCALING_CACHE, else ~/.cache/scaling",
    names="nothing", old="")
c.data.prefetch = whole(2, "dispatches", UP_TO_1000, "read ahead by a background thread",
    names="nothing")
# sizes that the programs are built for; data of other sizes are refused, and the right ones named
c.data.height = whole(0, "pixels, frames", NOT_NEGATIVE, "height; frames last 10 ms",
    fields=LABELLED, program=True, since=2)
c.data.width = whole(0, "pixels, bands", NOT_NEGATIVE, "width; bands are mel", fields=LABELLED,
    program=True, since=2)
c.data.channels = whole(0, "channels", NOT_NEGATIVE, "vision: 1 or 3; speech: 1", fields=LABELLED,
    program=True, since=2)
c.data.classes = whole(0, "labels", NOT_NEGATIVE, "number of labels", fields=LABELLED, program=True,
    since=2)
c.data.max_corrupt = number(0.01, "1", FRACTION, "largest share of unreadable examples",
    fields=LABELLED, since=2)
c.data.columns = items(("user", "item", "timestamp"), "names of a table's columns",
    fields=RECOMMEND, since=2)
c.data.min_uses = whole(5, "interactions", NOT_NEGATIVE, "leaves out users and items of fewer",
    fields=RECOMMEND, since=2)
# augmentation of training examples, see data/augment.py
c.data.crop = whole(0, "pixels, frames", NOT_NEGATIVE, "moves examples by at most this",
    fields=LABELLED, since=2)
c.data.flip = switch(False, "mirrors half of the images", fields=VISION, since=2)
c.data.mixup = number(0.0, "1", NOT_NEGATIVE, "alpha of mixup's Beta(alpha, alpha)",
    fields=LABELLED, program=True, since=2)
c.data.noise = number(0.0, "1", NOT_NEGATIVE,
    "sd of Gaussian noise; images are 0 to 1, log-mel as it is", fields=LABELLED, since=2)
c.data.time_masks = whole(0, "masks", NOT_NEGATIVE, "SpecAugment over frames", fields=SPEECH,
    since=2)
c.data.mask_frames = whole(0, "frames", NOT_NEGATIVE, "most frames of a mask", fields=SPEECH,
    since=2)
c.data.band_masks = whole(0, "masks", NOT_NEGATIVE, "SpecAugment over mel bands", fields=SPEECH,
    since=2)
c.data.mask_bands = whole(0, "bands", NOT_NEGATIVE, "most bands of a mask", fields=SPEECH, since=2)
c.data.drop_items = number(0.0, "1", FRACTION, "probability that an item is hidden",
    fields=RECOMMEND, since=2)

c.optim = Section()
c.optim.name = choice("adamw",
    "adamw | lion | adafactor | muon | sgd | adamh | muonh",
    "optimizer, see scaling/programs/optim.py", registry=OPTIMIZERS, program=True)
c.optim.lr = number(3e-3, "1", POSITIVE, "peak learning rate")
c.optim.beta1 = number(0.9, "1", LESS_THAN_ONE,
    "all but adafactor and sgd: decay of the first moment", program=True)
c.optim.beta2 = number(0.95, "1", LESS_THAN_ONE,
    "the same: decay of the second moment", program=True)
c.optim.eps = number(1e-8, "1", POSITIVE, "the same, but lion: added to the root", program=True)
c.optim.momentum = number(0.95, "1", LESS_THAN_ONE, "muon, muonh, sgd: decay of the momentum",
    program=True, since=2)
c.optim.weight_decay = number(0.1, "1", NOT_NEGATIVE,
    "decoupled, times lr; of all but norm scales and LRU eigenvalues: also embeddings and head")
c.optim.clip = number(1.0, "1", POSITIVE, "largest global norm of the gradient", program=True)
# terms that training adds to the cross-entropy, see models/losses.py; reported losses have none
c.optim.label_smoothing = number(0.0, "1", FRACTION, "share of the target spread over all tokens",
    program=True, since=2)
c.optim.z_loss = number(0.0, "1", NOT_NEGATIVE,
    "weight of log(Z)^2 of the softmax's total Z; 1e-4 in PaLM", program=True, since=2)
c.optim.focal_gamma = number(0.0, "1", NOT_NEGATIVE,
    "weighs a loss by (1 - p)^gamma; 2 in Lin et al. 2017", program=True, since=2)
c.optim.schedule = choice("cosine", "cosine | wsd | constant",
    "learning rate after a linear warm-up", registry=SCHEDULES, program=True)
c.optim.warmup_tokens = whole(None, "tokens", POSITIVE,
    "linear warm-up; None is warmup_fraction of the run", old=0)
c.optim.warmup_fraction = number(0.05, "1", FRACTION,
    "warm-up as a share of the run, if warmup_tokens is None")
c.optim.decay_fraction = number(0.2, "1", FRACTION,
    "wsd: last share of the run, over which lr falls linearly")
c.optim.cooldown = choice("decay", "decay | merge",
    "wsd: merge averages checkpoints of that part instead", since=2)
c.optim.merge_checkpoints = whole(8, "checkpoints", AT_MOST_1000,
    "merge: their number, evenly over what would be the decay", since=2)
c.optim.merge_weights = choice("uniform", "uniform | decay",
    "merge: decay weighs updates as the linear decay would", since=2)
c.optim.final_lr = number(0.0, "1", FRACTION,
    "lr at the end, as a share of the peak (cosine and wsd)")

c.train = Section()
c.train.tokens = whole(1_000_000, "tokens", POSITIVE, "length of the run; rounded to whole steps")
c.train.batch_size = whole(16, "rows", POSITIVE, "sequences or examples of a step", program=True)
c.train.steps_per_dispatch = whole(32, "steps", POSITIVE,
    "optimizer steps per call into the compiled program", program=True, names="sweep")
c.train.accumulate = whole(1, "micro-batches", POSITIVE,
    "per step, one after another; divides batch_size", program=True, names="sweep", since=2)
c.train.log_every = whole(8, "steps", POSITIVE,
    "steps per row of metrics.jsonl; divides steps_per_dispatch", program=True, names="sweep")

c.eval = Section()
c.eval.tokens = whole(65_536, "tokens", POSITIVE,
    "held-out tokens, examples or users, spread over the split")
c.eval.batch_size = whole(64, "rows", POSITIVE, "sequences or examples of a step", program=True)
c.eval.every_tokens = whole(None, "tokens", POSITIVE,
    "evaluates during training too; None only at the end", old=0)

c.parallel = Section(names="nothing", program=True)
c.parallel.cpu_devices = whole(2, "devices", AT_MOST_4096,
    "devices of a CPU host, each with a share of the batch")
# sizes of the mesh axes, see scaling/parallel/mesh.py; one may be -1, as in numpy.reshape
c.parallel.replica = whole(1, "devices", SIZE_OR_REST,
    "repeats the rest, over groups of hosts that a slower network joins", since=2)
c.parallel.data = whole(-1, "devices", SIZE_OR_REST, "splits the batch")
c.parallel.fsdp = whole(1, "devices", SIZE_OR_REST,
    "splits the batch, and parameters and optimizer state by model width")
c.parallel.sequence = whole(1, "devices", SIZE_OR_REST, "splits the positions", since=2)
c.parallel.tensor = whole(1, "devices", SIZE_OR_REST, "splits heads, MLP and vocabulary")
c.parallel.rules = items((),
    'other rules than parallel/sharding.py: ((logical axis, mesh axis or ""), ...)', since=2)
c.parallel.latency_hiding = choice("auto", "auto | none",
    "auto runs collectives beside computation", since=2)
c.parallel.device_memory_gb = number("auto", "GB", POSITIVE,
    "a run that needs more is refused; auto is as the device says", since=2, old=0.0)

c.checkpoint = Section(names="nothing")
c.checkpoint.every_tokens = whole(4_000_000, "tokens", POSITIVE,
    "between checkpoints; keeps the last")
c.checkpoint.keep = whole(2, "checkpoints", POSITIVE, "newest checkpoints kept")
c.checkpoint.asynchronous = switch(True, "writes files beside training, or waits", since=2)

c.sweep = Section(names="sweep")
c.sweep.kind = choice("none",
    "none | compute | params | data | ladder | hyper | grid | random | design",
    "none is a single run, see sweep/plan/kinds.py")
c.sweep.budgets = numbers((1e11,), "FLOPs", POSITIVE,
    "compute: training FLOPs per run, by the convention below")
c.sweep.flops = choice("exact", "exact | appendix_f | kaplan | porian | chinchilla",
    "convention of the budgets, see scaling/accounting.py")
c.sweep.sizes_per_budget = whole(6, "sizes", POSITIVE,
    "compute: consecutive rungs of the ladder at each budget")
c.sweep.optimum_guess = number(2e4, "parameters", POSITIVE,
    "compute: guess of the best n_params at 1e12 FLOPs ...")
c.sweep.optimum_exponent = number(0.5, "1", ANY,
    "... and its growth with the budget; centres the rungs")
c.sweep.extra_sizes = items((),
    "compute: ((budget, rungs), ...): so many sizes more above those of a budget, or below if < 0",
    since=2, later=True)
c.sweep.adaptive = switch(False, "compute: add sizes where the best is at an edge", since=2,
    later=True)
c.sweep.adaptive_share = number(0.5, "1", POSITIVE,
    "adaptive: at most this share of the first plan's FLOPs for added runs", since=2, later=True)
c.sweep.min_width = whole(16, "channels", POSITIVE, "ladder: width of the smallest rung")
c.sweep.width_ratio = number(1.3, "1", MORE_THAN_ONE,
    "ladder: width of a rung over that of the one below, before rounding")
c.sweep.width_multiple = whole(16, "channels", POSITIVE,
    "ladder: widths are rounded to this, which head sizes must allow")
c.sweep.rungs = whole(8, "rungs", AT_MOST_1000, "ladder: number of rungs")
c.sweep.aspect_ratio = number(32.0, "1", POSITIVE,
    "ladder: width / depth; depth is rounded, at least min_depth")
c.sweep.min_depth = whole(2, "blocks", POSITIVE, "ladder: depth of the narrowest rungs")
c.sweep.heads = whole(None, "heads", POSITIVE,
    "ladder: attention heads of each rung; None is width / model.head_dim", old=0)
c.sweep.mlp_ratio = number(4.0, "1", POSITIVE, "ladder: mlp_width / width")
c.sweep.tokens = wholes((1_000_000,), "tokens", POSITIVE,
    "data, ladder, hyper: the run lengths; params: its one length")
c.sweep.tokens_per_param = numbers((), "1", POSITIVE,
    "ladder, hyper: lengths in multiples of n_params; () is tokens", since=2)
c.sweep.unique_tokens = wholes((), "tokens", POSITIVE,
    "data: values of data.unique_tokens at each length; () keeps it", since=2)
c.sweep.assumed_mfu = number(0.3, "1", POSITIVE_FRACTION,
    "share of the matrix peak behind the time estimates of `plan`")
c.sweep.recipe = text(None,
    "power, a preset or fitted:FILE sets lr, batch and more, see docs/recipes.md", since=2, old="",
    later=True)
c.sweep.lr_coefficient = number(None, "1", POSITIVE,
    "power: lr = coefficient * n_params^-lr_n_exponent; None keeps optim.lr", old=0.0)
c.sweep.lr_n_exponent = number(0.0, "1", ANY, "exponent of that rule")
c.sweep.lr_factors = numbers((0.25, 0.5, 1.0, 2.0, 4.0), "1", POSITIVE,
    "hyper: peak lr as multiples of the rule's", since=2)
c.sweep.lr_values = numbers((), "1", POSITIVE, "hyper: peak lr; () goes by lr_factors", since=2)
c.sweep.batch_sizes = wholes((), "rows", POSITIVE, "hyper: of train.batch_size; () keeps it",
    since=2)
c.sweep.grid_keys = items((),
    "grid: one entry per axis, a dotted key or a tuple of keys to be zipped")
c.sweep.grid_values = items((), "grid: the values of each axis; of a zip tuples, one value per key")
c.sweep.random_ranges = items((),
    'random: (key, "uniform" or "log", low, high), (key, "choice", value, ...)', since=2)
c.sweep.random_count = whole(16, "runs", AT_MOST_100_000, "random: number of different draws",
    since=2)
c.sweep.random_seed = whole(0, "seed", NOT_NEGATIVE,
    "random: seeds the draws; more draws keep the earlier ones", since=2)
c.sweep.design_file = text(None,
    "design: the design.csv of `scaling design --out`, one run per row", since=2, old="")
# successive halving of grid, random and hyper: of runs of equal size, length and seed the best
# 1/halving continue from each rung, by their losses there; the others end as "stopped"
c.sweep.halving = whole(None, "1", MORE_THAN_ONE, "one run in this many continues", since=2, old=0)
c.sweep.halving_tokens = whole(None, "tokens", POSITIVE,
    "halving: the first rung; each next one is halving times as far", since=2, old=0)
c.sweep.seeds = wholes((0,), "seed", NOT_NEGATIVE,
    "repeats each run of the plan with each of these seeds")

c.launch = Section(names="nothing", since=2)
c.launch.kind = choice("local", "local | slurm | ray", "where a sweep's workers run")
c.launch.workers = whole("auto", "processes", AT_MOST_4096,
    "worker processes; auto is what was measured to be fastest (local), else 1", old=0)
c.launch.pack = whole("auto", "runs", POSITIVE,
    "runs of equal shape trained as one program; auto is what was measured", old=0)
c.launch.share_trunks = switch(True, "WSD runs that differ only in length fork from the longest")
c.launch.heartbeat_seconds = number(5.0, "seconds", SECONDS,
    "a worker renews its claim on a run this often")
c.launch.stale_seconds = number(60.0, "seconds", SECONDS,
    "a claim not renewed for this long may be taken over")
c.launch.price_per_device_hour = number(None, "money", POSITIVE,
    "for the forecast's cost; None prints no cost", old=0.0)
c.launch.cores = whole(1, "cores", POSITIVE, "slurm, ray: CPU cores per worker", old=0)
c.launch.gpus = whole(0, "GPUs", NOT_NEGATIVE, "slurm, ray: GPUs per worker")
c.launch.nodes = whole(1, "nodes", POSITIVE, "slurm: nodes per run, joined by jax.distributed")
c.launch.minutes = whole(60, "minutes", POSITIVE,
    "slurm: time limit of one job; a job that meets it saves and is requeued")
c.launch.partition = text(None, "slurm: partition; None is the cluster's default", old="")
c.launch.account = text(None, "slurm: account; None is the user's default", old="")
c.launch.memory_gb = whole(None, "GB", POSITIVE,
    "slurm: memory per node; None is the cluster's default", old=0)
c.launch.setup = items((), 'slurm: shell lines before each worker, such as ("module load cuda",)')
c.launch.address = text(None, "ray: the cluster's address; None starts one here", old="")
c.launch.resources = items((), 'ray: custom resources per worker, such as (("TPU", 4),)')

c.laws = Section(names="nothing")
c.laws.n_params = choice("n_params",
    "n_params | n_params_active | n_params_with_head | n_params_total", "which parameters N counts")
c.laws.flops = choice("flops_exact",
    "flops_exact | flops_appendix_f | flops_kaplan | flops_porian | flops_chinchilla",
    "column of compute C")
c.laws.huber_delta = number(1e-3, "1", POSITIVE,
    "threshold of the Huber loss on log loss (Hoffmann et al. 2022)")
c.laws.min_steps = whole(150, "steps", NOT_NEGATIVE,
    "runs of fewer steps are left out of L(N, D), and listed")
c.laws.bootstrap = whole(500, "resamples", AT_MOST_100_000, "resamples behind each interval")
c.laws.confidence = number(0.9, "1", LESS_THAN_ONE, "coverage of the intervals")
c.laws.smoothing = number(0.1, "decades", POSITIVE,
    "envelope: half-width of the average over log compute")
c.laws.holdout_factor = number(None, "1", MORE_THAN_ONE,
    "held-out run at this multiple of the largest budget; None is no such run", old=0.0)

KEYS = c.flat()


def get_config():
    """Return the defaults, typed and locked."""
    return defaults(KEYS)

"""Every config key once, with its unit and meaning. A study's config is a strict overlay on this one.

Durations are tokens, losses nats per token, budgets training FLOPs of a whole run. 0 or "" stands for
"off" or "choose for me" only where the key says so.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.name = "base"  # slug of the study; appears in titles and in the workdir's sweep.json
    c.seed = 0  # seeds parameters and data order of a run

    c.model = ConfigDict()
    c.model.kind = "transformer"  # transformer | mlp | cnn | lstm | lru, see models/block.py
    c.model.depth = 2  # number of blocks
    c.model.width = 64  # model width D, of a transformer a multiple of head_dim
    c.model.head_dim = 16  # transformer: size of a head; even where positions are rotary
    c.model.mlp_width = 256  # hidden width F of the MLP (per matrix, also for swiglu)
    c.model.mlp = "relu2"  # gelu | swiglu | relu2
    c.model.experts = 0  # mixture of that many MLPs in place of each; 0 = one MLP, dense
    c.model.experts_per_token = 2  # of these, the number that a token goes through
    c.model.balance = 0.01  # weight of the experts' load-balance loss, see models/experts.py
    c.model.kernel = 7  # cnn: taps of the convolution along each axis; odd
    c.model.window = 8  # mlp on sequences: tokens that a position sees
    c.model.norm = "rmsnorm"  # rmsnorm | layernorm (without bias)
    c.model.norm_eps = 1e-6  # added to the variance inside the norms
    c.model.patch_height = 4  # vision, speech: pixels or frames of a patch
    c.model.patch_width = 4  # vision, speech: pixels or mel bands of a patch
    c.model.positions = "rotary"  # rotary (in attention; other kinds then have none) | learned
    c.model.rope_base = 10000.0  # base of the rotary frequencies
    c.model.qk_norm = False  # transformer: RMSNorm on queries and keys, per head
    c.model.tied_head = False  # the head is the transposed embedding
    c.model.dtype = "float32"  # float32 | bfloat16, of activations and matrix products
    c.model.param_dtype = "float32"  # float32 | bfloat16, of parameters and optimizer state
    c.model.remat = "none"  # none | block | dots: what the backward pass recomputes, blocks or all of them but their matrix products
    c.model.scan_layers = False  # scan over the blocks (compiles 8 or more faster) or unroll
    c.model.matmul = "auto"  # auto | plain | flat, see scaling/models/ops.py
    c.model.loss_chunk = -1  # positions whose logits exist at a time; 0 = all, -1 = by vocab_size
    c.model.attention = "auto"  # auto | plain | chunked | cudnn | splash, see docs/accelerators.md

    c.data = ConfigDict()
    c.data.field = "language"  # language | vision | speech | recommend
    # embedded, a TFDS name such as "c4/en", or of language text_folder, debian/english; of vision digits,
    # debian/fashion_mnist, image_folder; of speech debian/festvox_ru, audio_folder; of recommend python_identifiers,
    # installed_identifiers, interaction_table
    c.data.name = "embedded"  # the source of the data
    c.data.path = ""  # the folder or file of text_folder and its like, or of debian/... elsewhere
    c.data.pattern = "*.txt"  # text_folder: which files are documents
    c.data.text_key = "text"  # TFDS: the feature that holds the text
    c.data.train_split = "train"  # TFDS: split to train on
    # recommend: "" holds out the last item of every user, "users" valid_fraction of the users, whole
    c.data.valid_split = ""  # TFDS: split to validate on; "" holds out documents of train_split
    c.data.valid_fraction = 0.05  # fraction of documents, or users, held out (by a hash of each)
    # language: what is done to documents before all else, see scaling/data/text_steps.py
    c.data.clean = False  # Unicode NFC
    c.data.min_chars = 0  # shorter documents are removed
    c.data.max_chars = 0  # longer documents are removed; 0 = none is
    c.data.min_letters = 0.0  # least share of letters, marks, digits and white space in a document
    c.data.dedupe = "none"  # none | exact | near | split: keep near ones, on one side of the split
    c.data.near_threshold = 0.8  # near, split: Jaccard index of runs of 5 words from which on
    c.data.tokenizer = "bytes"  # bytes | bpe
    c.data.tokenizer_path = ""  # bpe: a tokenizer.json to load; "" trains one on the train split
    c.data.vocab_size = 256  # bytes: 256; bpe: size to train, or of the loaded tokenizer
    c.data.seq_len = 128  # tokens of context T
    c.data.unique_tokens = 0  # train on only this many tokens, or examples; 0 = all of them
    c.data.hash = ""  # expected SHA-256 (or its first digits) of the documents; "" = only record it
    c.data.cache_dir = ""  # tokenised data; "" = $SCALING_CACHE, else ~/.cache/scaling
    c.data.prefetch = 2  # dispatches read ahead by a background thread
    # sizes that the programs are built for; data of other sizes are refused, and the right ones named
    c.data.height = 0  # vision: pixels; speech: frames of 10 ms
    c.data.width = 0  # vision: pixels; speech: mel bands
    c.data.channels = 0  # vision: 1 or 3; speech: 1
    c.data.classes = 0  # vision, speech: number of labels
    c.data.max_corrupt = 0.01  # vision, speech: largest fraction of unreadable examples, skipped
    c.data.columns = ("user", "item", "timestamp")  # recommend: names of these columns of a table
    c.data.min_uses = 5  # recommend: users and items of fewer interactions are left out
    # augmentation of training examples, see scaling/data/augment.py
    c.data.crop = 0  # vision, speech: pixels or frames that examples are moved by at most
    c.data.flip = False  # vision: mirror half of the images
    c.data.mixup = 0.0  # vision, speech: alpha of mixup's Beta(alpha, alpha)
    c.data.noise = 0.0  # vision, speech: sd of Gaussian noise; images are 0 to 1, log-mel as it is
    c.data.time_masks = 0  # speech: SpecAugment's masks over frames, each of at most ...
    c.data.mask_frames = 0  # ... this many
    c.data.band_masks = 0  # speech: SpecAugment's masks over mel bands, each of at most ...
    c.data.mask_bands = 0  # ... this many
    c.data.drop_items = 0.0  # recommend: probability that an item of a sequence is hidden

    c.optim = ConfigDict()
    c.optim.name = "adamw"  # adamw | lion | adafactor | muon | sgd, see scaling/programs/optim.py
    c.optim.lr = 3e-3  # peak learning rate
    c.optim.beta1 = 0.9  # adamw, lion, muon's Adam: first moment decay
    c.optim.beta2 = 0.95  # adamw, lion, muon's Adam: second moment decay
    c.optim.eps = 1e-8  # adamw, muon's Adam: denominator offset
    c.optim.momentum = 0.95  # muon, sgd: decay of the momentum
    c.optim.weight_decay = 0.1  # decoupled, multiplied by the learning rate; matrices only
    c.optim.clip = 1.0  # global gradient norm is clipped to this
    # what training adds to the cross-entropy, see scaling/models/losses.py; reported losses stay without
    c.optim.label_smoothing = 0.0  # share of the target that is spread over all tokens
    c.optim.z_loss = 0.0  # weight of log(Z)^2 of the softmax's total Z; 1e-4 in PaLM
    c.optim.focal_gamma = 0.0  # weighs a loss by (1 - p)^gamma; 2 in Lin et al. 2017
    c.optim.schedule = "cosine"  # cosine | wsd | constant, all after a linear warm-up
    c.optim.warmup_tokens = 0  # linear warm-up; 0 = warmup_fraction of the run
    c.optim.warmup_fraction = 0.05  # warm-up as a fraction of the run, where warmup_tokens is 0
    c.optim.decay_fraction = 0.2  # wsd: the last part of the run, over which lr falls linearly
    c.optim.cooldown = "decay"  # wsd: decay | merge (checkpoints of that part are averaged)
    c.optim.merge_checkpoints = 8  # merge: their number, evenly over what would be the decay
    c.optim.merge_weights = "uniform"  # uniform | decay: weigh updates as the linear decay would
    c.optim.final_lr = 0.0  # lr at the end, as a fraction of the peak (cosine and wsd)

    c.train = ConfigDict()
    c.train.tokens = 1_000_000  # length of the run; rounded to whole steps
    c.train.batch_size = 16  # sequences, or examples, per optimizer step
    c.train.steps_per_dispatch = 32  # optimizer steps per call into the compiled program
    c.train.accumulate = 1  # micro-batches per step, one after another; divides batch_size
    c.train.log_every = 8  # steps per row of metrics.jsonl; divides steps_per_dispatch

    c.eval = ConfigDict()
    c.eval.tokens = 65_536  # held-out tokens, examples or users, spread evenly over the split
    c.eval.batch_size = 64  # sequences, or examples, per evaluation step
    c.eval.every_tokens = 0  # evaluate during training too; 0 = only at the end

    c.parallel = ConfigDict()
    c.parallel.cpu_devices = 2  # devices a CPU host is presented as, each with a share of the batch
    # sizes of the mesh axes, see scaling/parallel/mesh.py; one may be -1 = all remaining devices
    c.parallel.replica = 1  # repeats the rest, over groups of hosts that a slower network joins
    c.parallel.data = -1  # splits the batch
    c.parallel.fsdp = 1  # splits the batch, and parameters and optimizer state by model width
    c.parallel.sequence = 1  # splits the positions of a sequence
    c.parallel.tensor = 1  # splits heads, MLP and vocabulary
    c.parallel.rules = ()  # other rules than scaling/parallel/sharding.py's: ((logical axis, mesh axis or ""), ...)
    c.parallel.latency_hiding = "auto"  # auto | none: collectives run beside computation
    c.parallel.device_memory_gb = 0.0  # a run that needs more is refused; 0 = as the device says

    c.checkpoint = ConfigDict()
    c.checkpoint.every_tokens = 4_000_000  # tokens between checkpoints; the last is always kept
    c.checkpoint.keep = 2  # newest checkpoints kept
    c.checkpoint.asynchronous = True  # files are written beside training; False waits for them

    c.sweep = ConfigDict()
    # none | compute | params | data | ladder | hyper | grid | random | design, see scaling/sweep/plan/kinds.py
    c.sweep.kind = "none"  # which sweep the section describes; none = a single run
    c.sweep.budgets = (1e11,)  # compute: training FLOPs per run, by the convention below
    c.sweep.flops = "exact"  # convention of the budgets, see scaling/accounting.py
    c.sweep.sizes_per_budget = 6  # compute: consecutive rungs of the ladder at each budget
    c.sweep.optimum_guess = 2e4  # compute: guess of the best n_params at 1e12 FLOPs ...
    c.sweep.optimum_exponent = 0.5  # ... and its growth with the budget; centres the rungs
    c.sweep.min_width = 16  # ladder: width of the smallest rung
    c.sweep.width_ratio = 1.3  # ladder: width of a rung over that of the one below, before rounding
    c.sweep.width_multiple = 16  # ladder: widths are rounded to this, which head sizes must allow
    c.sweep.rungs = 8  # ladder: number of rungs
    c.sweep.aspect_ratio = 32.0  # ladder: width / depth; depth is rounded, at least min_depth
    c.sweep.min_depth = 2  # ladder: depth of the narrowest rungs
    c.sweep.heads = 0  # ladder: attention heads of every rung; 0 = width / model.head_dim
    c.sweep.mlp_ratio = 4.0  # ladder: mlp_width / width
    c.sweep.tokens = (1_000_000,)  # data, ladder, hyper: the run lengths; params: its one length
    c.sweep.tokens_per_param = ()  # ladder, hyper: lengths in multiples of n_params; () = tokens
    c.sweep.unique_tokens = ()  # data: values of data.unique_tokens at every length; () = keep it
    c.sweep.assumed_mfu = 0.3  # share of the matrix peak behind the time estimates of `plan`
    c.sweep.lr_coefficient = 0.0  # lr = coefficient * n_params^-lr_n_exponent; 0 = keep optim.lr
    c.sweep.lr_n_exponent = 0.0  # see above
    c.sweep.lr_factors = (0.25, 0.5, 1.0, 2.0, 4.0)  # hyper: peak lr as multiples of the rule's
    c.sweep.lr_values = ()  # hyper: peak lr themselves; () = by lr_factors
    c.sweep.batch_sizes = ()  # hyper: values of train.batch_size; () = keep it
    c.sweep.grid_keys = ()  # grid: one entry per axis, a dotted key or a tuple of keys to be zipped
    c.sweep.grid_values = ()  # grid: the values of each axis; of a zip tuples, one value per key
    c.sweep.random_ranges = ()  # random: (key, "uniform" | "log", low, high), (key, "choice", v, ...)
    c.sweep.random_count = 16  # random: number of different draws
    c.sweep.random_seed = 0  # random: seeds the draws; more draws keep the earlier ones
    c.sweep.design_file = ""  # design: the design.csv of `scaling design --out`, one run per row
    # successive halving of grid, random and hyper: the best 1/halving of the runs of equal size, length and
    # seed go on from each rung, the others end as "stopped"; losses are compared on the way
    c.sweep.halving = 0  # 0 = off; else 2 or more
    c.sweep.halving_tokens = 0  # of the first rung; each next one is halving times as far
    c.sweep.seeds = (0,)  # every run of the plan is repeated with each of these seeds

    c.launch = ConfigDict()
    c.launch.kind = "local"  # local | slurm | ray: where a sweep's workers run
    c.launch.workers = 0  # worker processes; 0 = what was measured to be fastest (local), else 1
    c.launch.pack = 0  # runs of equal shape trained as one program; 0 = what was measured, 1 = none
    c.launch.share_trunks = True  # WSD runs that differ only in length fork from the longest
    c.launch.heartbeat_seconds = 5.0  # a worker renews its claim on a run this often
    c.launch.stale_seconds = 60.0  # a claim not renewed for this long may be taken over
    c.launch.price_per_device_hour = 0.0  # for the forecast's cost; 0 = no cost is printed
    c.launch.cores = 0  # slurm, ray: CPU cores per worker; 0 = one
    c.launch.gpus = 0  # slurm, ray: GPUs per worker
    c.launch.nodes = 1  # slurm: nodes per run, joined by jax.distributed
    c.launch.minutes = 60  # slurm: time limit of one job; a job that meets it saves and is requeued
    c.launch.partition = ""  # slurm: partition; "" = the cluster's default
    c.launch.account = ""  # slurm: account; "" = the user's default
    c.launch.memory_gb = 0  # slurm: memory per node; 0 = the cluster's default
    c.launch.setup = ()  # slurm: shell lines before each worker, e.g. ("module load cuda",)
    c.launch.address = ""  # ray: the cluster's address; "" = start one here
    c.launch.resources = ()  # ray: custom resources per worker, e.g. (("TPU", 4),)

    c.laws = ConfigDict()
    # size column: n_params | n_params_active | n_params_with_head | n_params_total
    c.laws.n_params = "n_params"  # which parameters N counts
    c.laws.flops = "flops_exact"  # compute column
    c.laws.huber_delta = 1e-3  # threshold of the Huber loss on log loss (Hoffmann et al. 2022)
    c.laws.min_steps = 150  # runs of fewer optimizer steps are left out of L(N, D), and listed
    c.laws.bootstrap = 500  # resamples behind every interval
    c.laws.confidence = 0.9  # coverage of the intervals
    c.laws.smoothing = 0.1  # envelope: half-width of the average over log compute, in decades
    c.laws.holdout_factor = 0.0  # held-out run at this multiple of the largest budget; 0 = none
    return c.lock()

from configs import mini
def get_config():
    c = mini.get_config()
    c.name="kills"
    c.sweep.kind="grid"
    S=128
    c.sweep.grid_keys=("optim.schedule","train.tokens","seed")
    c.sweep.grid_values=(("wsd","cosine"),(S*288,S*384,S*480,S*576),(0,1))
    c.model.width=16; c.model.head_dim=8; c.model.mlp_width=64
    c.optim.warmup_tokens=S*48
    c.checkpoint.keep=1000
    c.checkpoint.every_tokens=S*64
    c.eval.tokens=2048
    return c

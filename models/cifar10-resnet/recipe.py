#!/usr/bin/env python3
"""Recipe of the four residual networks for 32x32 images in `start`, from which
`stitchkit train` makes the `cifar10-resnet` family.

    recipe.py train     --out RUN     train, one checkpoint per epoch in RUN
    recipe.py export    --out RUN     write the four ONNX files
    recipe.py evaluate                float accuracy of the ONNX files' anchors
                                      and of every least-squares stitch

The data set is the tar of CIFAR-10 as labelled JPEG folders (`train/CLASS/NNNN.jpg`,
`test/CLASS/NNNN.jpg`). Decoded images are cached as .npy files.

How the anchors are made stitchable is described in DATA_CARD.md; in short,
resnet-8 is trained alone, two others after it, then the
stitched networks (front of the small one, least-squares projection, rest of
the large one) are part of the loss, with gradients through the least squares.
"""
import argparse
import copy
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
START = os.path.join(HERE, "start")
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
LABELS = ("airplane", "automobile", "bird", "cat", "deer",
          "dog", "frog", "horse", "ship", "truck")
HELD_OUT_PER_CLASS = 200     # the last files of each class folder of `train`
PAD = 4

# name -> (channels per stage, blocks per stage, stem stride)
ANCHORS = {
    "resnet-s": ((24, 32), (1, 1), 2),
    "resnet-8": ((16, 32, 64), (1, 1, 1), 1),
    "resnet-14": ((16, 32, 64), (2, 2, 2), 1),
    "resnet-12w": ((24, 48, 96), (1, 2, 2), 1),
}
# Not an anchor: a network of the cost of a stitch, trained alone to compare with it (`train --stage alone`).
RIVALS = {"resnet-12": ((16, 32, 64), (1, 2, 2), 1)}
# The stages of training, in order: what each trains, its epochs, image sizes
# (each up to a share of the stage) and peak rate. See the `loss_*`
# functions and DATA_CARD.md.
STAGES = {
    "first": (("resnet-8",), 50, ((24, 0.4), (32, 1)), 0.15),
    "apart": (("resnet-s", "resnet-12w"), 20, ((24, 0.4), (32, 1)), 0.15),
    "again": (("resnet-s", "resnet-12w"), 12, ((32, 1),), 0.08),
    "together": (("resnet-12w",), 14, ((32, 1),), 0.006),
    "between": (("resnet-14",), 24, ((24, 0.4), (32, 1)), 0.15),
    "alone": (("resnet-12",), 56, ((24, 0.4), (32, 1)), 0.15),
}
# (smaller, block it is left after, larger, block it is entered after, how
# often the last stage draws it). Blocks count from 0. Those never drawn are
# only evaluated.
STITCHES = (
    ("resnet-s", 0, "resnet-8", 1, 0),
    ("resnet-s", 1, "resnet-8", 2, 0),
    ("resnet-8", 0, "resnet-12w", 0, 0.6),
    ("resnet-8", 1, "resnet-12w", 1, 0.4),
    ("resnet-8", 1, "resnet-12w", 2, 0),
    ("resnet-8", 2, "resnet-12w", 3, 0),
    ("resnet-8", 2, "resnet-12w", 4, 0),
)


# ---------------------------------------------------------------- networks

class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride) if stride != 1 or cin != cout else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    def __init__(self, widths, blocks, stem_stride):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        out, c = [], widths[0]
        for stage, (w, n) in enumerate(zip(widths, blocks)):
            for j in range(n):
                out.append(Block(c, w, 2 if stage and not j else 1))
                c = w
        self.blocks = nn.ModuleList(out)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c, len(LABELS))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def head(self, x):
        return self.fc(torch.flatten(self.pool(x), 1))

    def features(self, x):
        """The output of every block, in order."""
        x = F.relu(self.bn(self.stem(x)))
        out = []
        for b in self.blocks:
            x = b(x)
            out.append(x)
        return out

    def rest(self, x, after):
        """The logits from a feature map that stands for block `after`'s output."""
        for b in list(self.blocks)[after + 1:]:
            x = b(x)
        return self.head(x)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        for b in self.blocks:
            x = b(x)
        return self.head(x)


def build():
    return nn.ModuleDict({n: ResNet(*spec) for n, spec in (ANCHORS | RIVALS).items()}).to(
        memory_format=torch.channels_last)


def count_macs(net, hw=32):
    total, hooks = [0], []

    def hook(m, _, y):
        if isinstance(m, nn.Conv2d):
            k = m.kernel_size[0] * m.kernel_size[1] * m.in_channels
            total[0] += k * y.shape[1] * y.shape[2] * y.shape[3]
        else:
            total[0] += m.in_features * m.out_features
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            hooks.append(m.register_forward_hook(hook))
    was = net.training
    net.eval()
    with torch.no_grad():
        net(torch.zeros(1, 3, hw, hw))
    net.train(was)
    for h in hooks:
        h.remove()
    return total[0]


# -------------------------------------------------------------------- data

def decode(tar_path, cache):
    """Decode the tar once; keep u8 arrays [N,32,32,3] and labels in `cache`."""
    from PIL import Image
    os.makedirs(cache, exist_ok=True)
    done = os.path.join(cache, "done")
    if not os.path.exists(done):
        rows = {"train": [], "test": []}
        with tarfile.open(tar_path) as tar:
            for m in tar:
                if not m.isfile() or not m.name.endswith(".jpg"):
                    continue
                split, label, file = m.name.split("/")[-3:]
                img = np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB"))
                rows[split].append((LABELS.index(label), file, img))
        for split, r in rows.items():
            r.sort(key=lambda t: t[:2])
            np.save(os.path.join(cache, f"{split}_x.npy"), np.stack([t[2] for t in r]))
            np.save(os.path.join(cache, f"{split}_y.npy"), np.array([t[0] for t in r], np.int64))
        open(done, "w").close()


def load(cache, part):
    """part: `train` (all but the held-out images), `held-out` or `test`."""
    split = "test" if part == "test" else "train"
    x = np.load(os.path.join(cache, f"{split}_x.npy"))
    y = np.load(os.path.join(cache, f"{split}_y.npy"))
    if part == "test":
        return x, y
    keep = np.ones(len(y), bool)
    for c in range(len(LABELS)):
        keep[np.flatnonzero(y == c)[-HELD_OUT_PER_CLASS:]] = False
    if part == "held-out":
        keep = ~keep
    return x[keep], y[keep]


def normalise(x_u8_nchw, res=32):
    x = torch.from_numpy(x_u8_nchw).float().div_(255)
    if res != x.shape[-1]:
        x = F.interpolate(x, size=(res, res), mode="bilinear", antialias=True)
    x.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))
    return x.contiguous(memory_format=torch.channels_last)


class Batches:
    """Whole-batch random crop (reflection pad of 4) and horizontal flip."""

    def __init__(self, x, y):
        xp = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
        self.win = np.lib.stride_tricks.sliding_window_view(xp, (32, 32), axis=(1, 2))
        self.y = y

    def epoch(self, seed, epoch, batch, rank, ranks, res):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self.y))
        n = len(order) // (batch * ranks)
        rng = np.random.default_rng([seed, epoch, rank + 1])
        for i in range(n):
            idx = order[(i * ranks + rank) * batch:][:batch]
            oy, ox = rng.integers(0, 2 * PAD + 1, (2, batch))
            x = self.win[idx, oy, ox]                 # [B,3,32,32]
            flip = rng.random(batch) < 0.5
            x[flip] = x[flip][..., ::-1]
            yield normalise(x, res), torch.from_numpy(self.y[idx])


# --------------------------------------------------- least squares of a batch

@torch.autocast("cpu", enabled=False)
def least_squares(fx, fy, ridge=1e-3):
    """The 1x1 convolution (weight, bias) that maps `fx` to `fy` best over this
    batch, every pixel a row; the ridge is relative to each input's energy.
    Differentiable: gradients pass through the solution."""
    x = fx.permute(0, 2, 3, 1).reshape(-1, fx.shape[1]).float()
    y = fy.permute(0, 2, 3, 1).reshape(-1, fy.shape[1]).float()
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    a, b = (x.T @ x / len(x)).double(), (x.T @ y / len(x)).double()
    damp = ridge * a.diagonal().detach()[:-1]
    damp = torch.cat([damp + damp.mean() + 1e-9, torch.full((1,), 1e-9, dtype=torch.float64)])
    w = torch.linalg.solve(a + torch.diag(damp), b).T.float()        # [cout, cin+1]
    return w[:, :-1, None, None].contiguous(), w[:, -1].contiguous()


# ---------------------------------------------------------------- training

def soft_loss(logits, teacher, y, share, temp=2.0):
    """Cross-entropy mixed with the (detached) teacher's softened labels."""
    kl = F.kl_div(F.log_softmax(logits / temp, 1), F.log_softmax(teacher / temp, 1),
                  reduction="batchmean", log_target=True) * temp * temp
    return (1 - share) * F.cross_entropy(logits, y) + share * kl


def loss_first(nets, teachers, x, y, args, drawn):
    """resnet-8 learns from the labels, with nothing beside it."""
    loss = F.cross_entropy(nets["resnet-8"](x).float(), y, label_smoothing=args.smooth)
    return loss, {"resnet-8": loss}


def loss_apart(nets, teachers, x, y, args, drawn):
    """resnet-12w learns from the labels, resnet-s also from resnet-8."""
    with torch.no_grad():
        soft = nets["resnet-8"](x).float()
    parts = {
        "resnet-12w": F.cross_entropy(nets["resnet-12w"](x).float(), y, label_smoothing=args.smooth),
        "resnet-s": soft_loss(nets["resnet-s"](x).float(), soft, y, args.distil),
    }
    return sum(parts.values()), parts


def loss_again(nets, teachers, x, y, args, drawn):
    """Both learn on, from the labels and from resnet-8 and resnet-12w as they were."""
    with torch.no_grad():
        soft = 0.5 * (nets["resnet-8"](x) + teachers["resnet-12w"](x)).float()
    parts = {n: soft_loss(nets[n](x).float(), soft, y, args.distil) for n in ("resnet-12w", "resnet-s")}
    return sum(parts.values()), parts


def loss_together(nets, teachers, x, y, args, drawn):
    """resnet-12w learns to be entered from the finished resnet-8, batch norms fixed."""
    small, large = nets["resnet-8"], nets["resnet-12w"]
    with torch.no_grad():
        mid = small.features(x)
        soft = 0.5 * (small.head(mid[-1]) + teachers["resnet-12w"](x)).float()
    feats = large.features(x)
    parts = {"resnet-12w": soft_loss(large.head(feats[-1]).float(), soft, y, args.distil)}
    half = len(y) // 2
    a, i, b, j, _ = STITCHES[drawn]
    w, bias = least_squares(mid[i][:half], feats[j][:half])
    stitched = large.rest(F.conv2d(mid[i][:half], w, bias), j).float()
    parts[f"path {a}.{i}>{b}.{j}"] = path = soft_loss(stitched, soft[:half], y[:half], args.distil)
    return parts["resnet-12w"] + args.path * path, parts


def taught(name):
    """The network of this name learns from the labels and from the finished resnet-8 and resnet-12w."""
    def loss(nets, teachers, x, y, args, drawn):
        with torch.no_grad():
            soft = 0.5 * (nets["resnet-8"](x) + nets["resnet-12w"](x)).float()
        parts = {name: soft_loss(nets[name](x).float(), soft, y, args.distil)}
        return parts[name], parts
    return loss


LOSSES = {"first": loss_first, "apart": loss_apart, "again": loss_again, "together": loss_together,
          "between": taught("resnet-14"), "alone": taught("resnet-12")}


def rate(t, steps, warm, peak):
    """Linear warm-up to `peak`, then linear to zero: step `t` of `steps`."""
    return peak * (t / warm if t < warm else (steps - t) / (steps - warm))


def average_over_ranks(dist, ranks, tensors):
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat.div_(ranks)
    at = 0
    for t in tensors:
        t.copy_(flat[at:at + t.numel()].view_as(t))
        at += t.numel()


def finished(args, stage):
    """Weights of the networks that a finished stage trained: from the run, or with `--stage` from the
    ONNX files."""
    names = STAGES[stage][0]
    if args.stage:
        return {n: read_onnx(os.path.join(START, n + ".onnx"), n).state_dict() for n in names}
    settled = torch.load(os.path.join(args.out, stage + ".pt"), map_location="cpu", weights_only=True)["settled"]
    return {n: settled[n] for n in names}


def worker(rank, ranks, args, stage):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    dist = None
    if ranks > 1:
        import torch.distributed as dist
        dist.init_process_group("gloo", init_method="file://" + args.rendezvous + stage,
                                rank=rank, world_size=ranks)
    names, epochs, phases, peak = STAGES[stage]
    nets = build()
    for earlier in list(STAGES)[:list(STAGES).index(stage)]:
        for n, state in finished(args, earlier).items():
            nets[n].load_state_dict(state)
    nets.requires_grad_(False)
    for n in names:
        nets[n].requires_grad_(True)
    mine = {n: nets[n] for n in names}
    teachers = {n: copy.deepcopy(net).eval().requires_grad_(False) for n, net in mine.items()}
    ema = {n: copy.deepcopy(net) for n, net in mine.items()}
    params = [p for net in mine.values() for p in net.parameters()]
    opt = torch.optim.SGD([{"params": [p for p in params if p.ndim > 1], "weight_decay": args.wd},
                           {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}],
                          lr=peak, momentum=0.9, nesterov=True)

    ckpt = os.path.join(args.out, stage + ".pt")
    start, elapsed = 0, 0.0
    if os.path.exists(ckpt):
        c = torch.load(ckpt, map_location="cpu", weights_only=True)
        for n in names:
            mine[n].load_state_dict(c["nets"][n])
            ema[n].load_state_dict(c["ema"][n])
        opt.load_state_dict(c["opt"])
        start, elapsed = c["epoch"], c["elapsed"]
    x, y = load(args.cache, "train")
    data = Batches(x, y)
    sample = x[np.random.default_rng(0).permutation(len(y))[:4096]]
    held = load(args.cache, "held-out") if rank == 0 else None
    steps = len(y) // (args.batch * ranks)
    shares = [s[4] for s in STITCHES]

    for epoch in range(start, epochs):
        t0 = time.time()
        nets.eval()
        for net in mine.values():
            net.train(stage != "together")
        pick = random.Random(f"{args.seed}/{epoch}")       # the same on every rank
        res = next(size for size, upto in phases if (epoch + 0.5) / epochs <= upto)
        sums = {}
        for step, (x, y) in enumerate(data.epoch(args.seed, epoch, args.batch, rank, ranks, res)):
            t = epoch * steps + step
            for g in opt.param_groups:
                g["lr"] = rate(t, epochs * steps, args.warmup * steps, peak)
            drawn = pick.choices(range(len(shares)), shares)[0]
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss, parts = LOSSES[stage](nets, teachers, x, y, args, drawn)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            if dist is not None:
                average_over_ranks(dist, ranks, [p.grad for p in params])
            parts["gradient norm"] = torch.nn.utils.clip_grad_norm_(params, args.clip)
            opt.step()
            average_weights(ema, mine, min(args.ema, (1 + t) / (10 + t)))
            for n, v in parts.items():
                s = sums.setdefault(n, [0.0, 0])
                s[0] += float(v.detach())
                s[1] += 1
            if rank == 0 and step % 50 == 0:
                print(f"{stage} epoch {epoch} step {step}/{steps} res {res} lr {opt.param_groups[0]['lr']:.4f} "
                      f"loss {float(loss.detach()):.3f} {time.time() - t0:.0f}s", flush=True)
        if dist is not None:      # running statistics: the mean over the ranks
            average_over_ranks(dist, ranks, [b for net in mine.values() for b in net.buffers()
                                             if b.is_floating_point()])
        if rank == 0:
            elapsed += time.time() - t0
            settled = copy.deepcopy(ema)
            if stage != "together":
                settle(settled, sample[:4096 if epoch + 1 == epochs else 1536])
            row = {"stage": stage, "epoch": epoch + 1, "of": epochs, "res": res,
                   "lr": round(opt.param_groups[0]["lr"], 5),
                   "seconds": round(time.time() - t0, 1), "elapsed": round(elapsed, 1),
                   "loss": {n: round(s / k, 4) for n, (s, k) in sorted(sums.items())},
                   "held_out": {n: round(accuracy(net, *held), 4) for n, net in settled.items()}}
            state = lambda d: {n: net.state_dict() for n, net in d.items()}
            save(ckpt, {"nets": state(mine), "ema": state(ema), "settled": state(settled),
                        "opt": opt.state_dict(), "epoch": epoch + 1, "elapsed": elapsed})
            with open(os.path.join(args.out, "train.log.jsonl"), "a") as f:
                f.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
        if dist is not None:
            dist.barrier()
    if dist is not None:
        dist.destroy_process_group()


@torch.no_grad()
def average_weights(ema, nets, decay):
    for n in nets:
        for e, p in zip(ema[n].state_dict().values(), nets[n].state_dict().values()):
            if e.is_floating_point():
                e.lerp_(p, 1 - decay)
            else:
                e.copy_(p)


def save(path, obj):
    torch.save(obj, path + ".part")
    os.replace(path + ".part", path)


@torch.no_grad()
def settle(nets, x):
    """Batch-norm statistics of averaged weights: not the average of the
    statistics, so they are measured anew on training images."""
    norms = [m for net in nets.values() for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.train()
    for n, at in enumerate(range(0, len(x), 256)):
        b = normalise(np.ascontiguousarray(x[at:at + 256].transpose(0, 3, 1, 2)))
        for m in norms:
            m.momentum = 1 / (n + 1)
        for net in nets.values():
            net(b)
    for net in nets.values():
        net.eval()


@torch.no_grad()
def logits_of(f, x, batch=250):
    return torch.cat([f(normalise(np.ascontiguousarray(x[i:i + batch].transpose(0, 3, 1, 2)))).float()
                      for i in range(0, len(x), batch)])


def accuracy(net, x, y):
    net.eval()
    return float((logits_of(net, x).argmax(1).numpy() == y).mean())


def train(args):
    decode(args.data, args.cache)
    os.makedirs(args.out, exist_ok=True)
    if not args.resume and os.path.exists(os.path.join(args.out, "train.log.jsonl")):
        sys.exit(f"{args.out} holds a run already: give --resume or another --out")
    args.rendezvous = os.path.join(tempfile.mkdtemp(), "rendezvous-")
    for stage in [args.stage] if args.stage else [s for s in STAGES if s != "alone"]:
        if args.procs == 1:
            worker(0, 1, args, stage)
        else:
            torch.multiprocessing.spawn(worker, (args.procs, args, stage), nprocs=args.procs)


# ------------------------------------------------------------------ export

def load_trained(out):
    """The networks, of the run's stages as far as it has them, else of the ONNX files; and the epochs of the former."""
    nets, epochs = build(), {}
    for stage, (names, *_) in STAGES.items():
        if not os.path.exists(os.path.join(out, stage + ".pt")):
            for n in set(names) - set(epochs) - set(RIVALS):
                nets[n].load_state_dict(read_onnx(os.path.join(START, n + ".onnx"), n).state_dict())
            continue
        c = torch.load(os.path.join(out, stage + ".pt"), map_location="cpu", weights_only=True)
        for n in names:
            nets[n].load_state_dict(c["settled"][n])
            epochs[n] = c["epoch"]
    if not epochs:
        sys.exit(f"{out}: no checkpoint of a stage ({', '.join(STAGES)}); `recipe.py train --out {out}` makes them")
    for n in set(RIVALS) - set(epochs):
        del nets[n]
    return nets.eval(), epochs


def export(args):
    import onnx
    nets, epochs = load_trained(args.out)
    print(f"checkpoints of epochs {epochs}")
    for name, net in nets.items():
        if name not in epochs:
            print(f"{name}: not trained in this run, left as it is")
            continue
        path = os.path.join(args.to, name + ".onnx")
        net = copy.deepcopy(net).to(memory_format=torch.contiguous_format).eval()
        # PRESERVE keeps the batch norms as nodes of their own.
        torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), path + ".part", opset_version=17,
                          input_names=["input"], output_names=["logits"], dynamo=False,
                          training=torch.onnx.TrainingMode.PRESERVE)
        os.replace(path + ".part", path)
        g = onnx.load(path).graph
        cuts = [n.output[0] for n in g.node if n.op_type == "Relu" and n.input[0].endswith("Add_output_0")]
        print(f"{name}: {count_macs(net)} MACs, {sum(p.numel() for p in net.parameters())} parameters, "
              f"{os.path.getsize(path)} bytes, cuts {json.dumps(cuts)}")


# -------------------------------------------------------------- evaluation

def read_onnx(path, name):
    """The network of an ONNX file this recipe wrote (initializers by name)."""
    import onnx
    from onnx import numpy_helper
    net = ResNet(*(ANCHORS | RIVALS)[name])
    state = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in onnx.load(path).graph.initializer}
    want = net.state_dict()
    net.load_state_dict({k: state.get(k, v) for k, v in want.items()})
    missing = [k for k in want if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        sys.exit(f"{path}: no initializer {missing}")
    return net.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def fit(small, i, large, j, x):
    """Least-squares 1x1 convolution (with bias) in f64, every pixel a row."""
    xx = xy = None
    var, n = None, 0
    for at in range(0, len(x), 128):
        b = normalise(np.ascontiguousarray(x[at:at + 128].transpose(0, 3, 1, 2)))
        fx, fy = small.features(b)[i], large.features(b)[j]
        a = fx.permute(0, 2, 3, 1).reshape(-1, fx.shape[1]).double()
        c = fy.permute(0, 2, 3, 1).reshape(-1, fy.shape[1]).double()
        a = torch.cat([a, torch.ones(len(a), 1, dtype=torch.float64)], 1)
        s = (a.T @ a, a.T @ c, c.square().sum(0), c.sum(0), len(c))
        xx, xy, var, mean, n = s if xx is None else (xx + s[0], xy + s[1], var + s[2], mean + s[3], n + s[4])
    w = torch.linalg.lstsq(xx, xy, driver="gelsd").solution
    left = var - 2 * (w * xy).sum(0) + (w * (xx @ w)).sum(0)
    r2 = 1 - float(left.sum() / (var - mean.square() / n).sum())
    w = w.T.float()
    return w[:, :-1, None, None].contiguous(), w[:, -1].contiguous(), r2


def evaluate(args):
    decode(args.data, args.cache)
    torch.set_num_threads(args.threads)
    if args.checkpoint:
        nets, _ = load_trained(args.checkpoint)
    else:
        nets = {n: read_onnx(os.path.join(args.to, n + ".onnx"), n) for n in ANCHORS}
    x, y = load(args.cache, args.part)
    if args.limit:
        pick = np.random.default_rng(0).permutation(len(y))[:args.limit]
        x, y = x[pick], y[pick]
    cx, _ = load(args.cache, "train")
    cx = cx[np.random.default_rng(args.seed).permutation(len(cx))[:args.images]]
    acc, macs = {}, {}
    for n, net in nets.items():
        acc[n], macs[n] = accuracy(net, x, y), count_macs(net)
        print(f"{n:44s} {macs[n]:>10d} MACs  {100 * acc[n]:6.2f} %", flush=True)
    rows = []
    for a, i, b, j, *_ in STITCHES:
        w, bias, r2 = fit(nets[a], i, nets[b], j, cx)
        with torch.no_grad():
            out = logits_of(lambda v: nets[b].rest(F.conv2d(nets[a].features(v)[i], w, bias), j), x)
        got = float((out.argmax(1).numpy() == y).mean())
        label = f"{a} after block {i} > {b} after block {j}"
        print(f"{label:44s} R2 {r2:.3f}          {100 * got:6.2f} %  "
              f"({100 * (got - acc[a]):+.2f} against {a})", flush=True)
        rows.append({"stitch": label, "r2": round(r2, 4), "accuracy": round(got, 4)})
    print(json.dumps({"part": args.part, "images": len(y), "calibration": args.images,
                      "anchors": {n: round(v, 4) for n, v in acc.items()}, "stitches": rows}))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)

    def common(p):
        p.add_argument("--data", default=os.path.join(HERE, "../../../shared/data/cifar10-jpeg.tar"),
                       help="tar of train/CLASS/*.jpg and test/CLASS/*.jpg")
        p.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), "stitchkit-cifar10"),
                       help="folder for the decoded images")
    p = sub.add_parser("train", help="train resnet-8, two others, their stitches, then resnet-14")
    common(p)
    p.add_argument("--out", required=True, help="folder for a checkpoint per stage and train.log.jsonl")
    p.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    p.add_argument("--stage", choices=list(STAGES),
                   help="this stage alone; what earlier ones trained is read from the ONNX files")
    p.add_argument("--procs", type=int, default=2, help="data-parallel processes")
    p.add_argument("--threads", type=int, default=1, help="threads of each process")
    p.add_argument("--batch", type=int, default=64, help="images per process and step")
    p.add_argument("--warmup", type=float, default=1.5, help="epochs of warm-up of every stage")
    p.add_argument("--wd", type=float, default=5e-4, help="weight decay of convolution and linear weights")
    p.add_argument("--clip", type=float, default=5.0, help="largest gradient norm")
    p.add_argument("--smooth", type=float, default=0.05, help="label smoothing where no teacher softens them")
    p.add_argument("--distil", type=float, default=0.5, help="share of soft labels")
    p.add_argument("--path", type=float, default=1.0, help="weight of the stitched paths")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights")
    p.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True,
                   help="bfloat16 autocast")
    p.add_argument("--seed", type=int, default=1)
    p.set_defaults(run=train)
    p = sub.add_parser("export", help="write the ONNX files of a run's averaged weights")
    p.add_argument("--out", required=True, help="folder of the run")
    p.add_argument("--to", default=START, help="folder for the ONNX files")
    p.set_defaults(run=export)
    p = sub.add_parser("evaluate", help="accuracy of the anchors and of the least-squares stitches")
    common(p)
    p.add_argument("--to", default=START, help="folder of the ONNX files")
    p.add_argument("--checkpoint", help="folder of a run: evaluate its checkpoint, not the ONNX files")
    p.add_argument("--part", choices=("test", "held-out"), default="test")
    p.add_argument("--limit", type=int, help="only so many images of the part")
    p.add_argument("--images", type=int, default=512, help="calibration images, from the training part")
    p.add_argument("--seed", type=int, default=1, help="draw of the calibration images")
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(run=evaluate)
    args = ap.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

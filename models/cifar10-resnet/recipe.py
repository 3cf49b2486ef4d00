#!/usr/bin/env python3
"""Recipe of the `cifar10-resnet` family: three residual networks for 32x32
images that are trained together so that they can be stitched.

    recipe.py train     --out RUN     train, one checkpoint per epoch in RUN
    recipe.py export    --out RUN     write the three ONNX files
    recipe.py evaluate                float accuracy of the ONNX files' anchors
                                      and of every least-squares stitch

The data set is the tar of CIFAR-10 as labelled JPEG folders (`train/CLASS/NNNN.jpg`,
`test/CLASS/NNNN.jpg`). Decoded images are cached as .npy files.

How the anchors are made stitchable is described in DATA_CARD.md; in short, at
every stitch position the least-squares 1x1 projection from the smaller
network's features to the larger one's is kept up to date from running second
moments, the larger network's features are pulled towards what is linearly
predictable from the smaller one, and the stitched network itself (front of
the small one, projection, rest of the large one) is part of the loss.
"""
import argparse
import copy
import io
import json
import math
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
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
LABELS = ("airplane", "automobile", "bird", "cat", "deer",
          "dog", "frog", "horse", "ship", "truck")
HELD_OUT_PER_CLASS = 200     # the last files of each class folder of `train`
PAD = 4

# name -> (channels per stage, blocks per stage, stem stride)
ANCHORS = {
    "resnet-s": ((20, 40), (1, 1), 2),
    "resnet-8": ((16, 32, 64), (1, 1, 1), 1),
    "resnet-12w": ((24, 48, 96), (1, 2, 2), 1),
}
# (smaller, block it is left after, larger, block it is entered after, how
# often the stitched path is trained, its weight). Blocks count from 0. Stitches
# with a share below 1 take turns: at most one is drawn for each step. The stitches
# that only swap the linear layer gain nothing and weigh little.
STITCHES = (
    ("resnet-s", 0, "resnet-8", 1, 1.0, 2.0),
    ("resnet-s", 1, "resnet-8", 2, 1.0, 0.1),
    ("resnet-8", 0, "resnet-12w", 0, 0.05, 1.0),
    ("resnet-8", 1, "resnet-12w", 1, 0.15, 1.0),
    ("resnet-8", 1, "resnet-12w", 2, 0.25, 1.0),
    ("resnet-8", 2, "resnet-12w", 3, 0.15, 1.0),
    ("resnet-8", 2, "resnet-12w", 4, 1.0, 0.1),
)


# ---------------------------------------------------------------- networks

class Norm(nn.BatchNorm2d):
    """A batch norm that, in training, remembers the statistics of its last
    batch: a stitched path is normalised with those of the network's own path
    (`frozen`), as it is by the fixed statistics of a trained network. The
    running averages would lag behind weights that still move fast."""

    def forward(self, x, frozen: bool = False):
        if not self.training:
            return super().forward(x)
        if frozen:
            mean, var = self.last
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        y, mean, invstd = torch.ops.aten.native_batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            True, self.momentum, self.eps)
        self.last = mean.detach(), invstd.detach().pow(-2) - self.eps
        return y


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = Norm(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = Norm(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride) if stride != 1 or cin != cout else None

    def forward(self, x, frozen: bool = False):
        y = F.relu(self.bn1(self.conv1(x), frozen))
        y = self.bn2(self.conv2(y), frozen)
        return F.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    def __init__(self, widths, blocks, stem_stride):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False)
        self.bn = Norm(widths[0])
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

    def features(self, x, back: float = 1.0):
        """The output of every block, in order. Only a share `back` of a
        block's gradient reaches the block before it."""
        x = F.relu(self.bn(self.stem(x)))
        out = []
        for b in self.blocks:
            if out and back < 1:
                x = back * x + (1 - back) * x.detach()
            x = b(x)
            out.append(x)
        return out

    def rest(self, x, after, frozen=True):
        """The logits from a feature map that stands for block `after`'s output."""
        for b in list(self.blocks)[after + 1:]:
            x = b(x, frozen)
        return self.head(x)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        for b in self.blocks:
            x = b(x)
        return self.head(x)


def build():
    return nn.ModuleDict({n: ResNet(*spec) for n, spec in ANCHORS.items()}).to(
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
            yield normalise(x, res()), torch.from_numpy(self.y[idx])


# ---------------------------------------------- least squares by moments

class Moments:
    """Running second moments of [x, 1, y] at one stitch position and the
    least-squares map y ~ W x + b they define."""

    def __init__(self, cin, cout, decay):
        self.cin, self.cout, self.decay = cin, cout, decay
        self.m = torch.zeros(cin + 1 + cout, cin + 1 + cout)

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def batch(self, fx, fy):
        x = fx.permute(0, 2, 3, 1).reshape(-1, self.cin).float()
        y = fy.permute(0, 2, 3, 1).reshape(-1, self.cout).float()
        z = torch.cat([x, torch.ones(len(x), 1), y], 1)
        return z.T @ z / len(z)

    def update(self, m):
        self.m = m.clone() if not self.m.any() else self.decay * self.m + (1 - self.decay) * m

    def solve(self, now):
        """From the running moments and, in equal part, those of this batch,
        without which the map lags behind features that move."""
        m = 0.5 * (now + self.m) if self.m.any() else now
        k = self.cin + 1
        a, b = m[:k, :k].double(), m[:k, k:].double()
        a = a + torch.eye(k, dtype=torch.float64) * (1e-4 * a.diagonal()[:-1].mean() + 1e-9)
        w = torch.linalg.solve(a, b).T.float()        # [cout, cin+1]
        return w[:, :-1, None, None].contiguous(), w[:, -1].contiguous()


# ---------------------------------------------------------------- training

def soft_loss(logits, teacher, y, share, temp=2.0):
    """Cross-entropy mixed with the (detached) teacher's softened labels."""
    kl = F.kl_div(F.log_softmax(logits / temp, 1), F.log_softmax(teacher / temp, 1),
                  reduction="batchmean", log_target=True) * temp * temp
    return (1 - share) * F.cross_entropy(logits, y) + share * kl


def parse_plan(plan):
    """`20:0.2,24:0.5,32:1`: image sizes, each up to a share of the run."""
    return [(int(a), float(b)) for a, b in (p.split(":") for p in plan.split(","))]


def res_at(phases, share):
    return next((r for r, upto in phases if share <= upto), phases[-1][0])


def worker(rank, ranks, args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    dist = None
    if ranks > 1:
        import torch.distributed as dist
        dist.init_process_group("gloo", init_method="file://" + args.rendezvous,
                                rank=rank, world_size=ranks)
    nets = build()
    ema = copy.deepcopy(nets) if rank == 0 else None
    params = [p for p in nets.parameters()]
    decay = [p for p in params if p.ndim > 1]
    plain = [p for p in params if p.ndim <= 1]
    opt = torch.optim.SGD([{"params": decay, "weight_decay": args.wd},
                           {"params": plain, "weight_decay": 0.0}],
                          lr=args.lr, momentum=0.9, nesterov=True)
    ch = {n: [w for w, k in zip(s[0], s[1]) for _ in range(k)] for n, s in ANCHORS.items()}
    moments = [Moments(ch[a][i], ch[b][j], args.moment_decay) for a, i, b, j, *_ in STITCHES]

    ckpt = os.path.join(args.out, "checkpoint.pt")
    log = os.path.join(args.out, "train.log.jsonl")
    start, elapsed = 0, 0.0
    if args.resume and os.path.exists(ckpt):
        c = torch.load(ckpt, map_location="cpu", weights_only=True)
        nets.load_state_dict(c["nets"])
        opt.load_state_dict(c["opt"])
        for m, v in zip(moments, c["moments"]):
            m.m = v
        if ema is not None:
            ema.load_state_dict(c["ema"])
        start, elapsed = c["epoch"], c["elapsed"]
    sample, y = load(args.cache, "train")
    data = Batches(sample, y)
    sample = sample[np.random.default_rng(0).permutation(len(y))[:4096]]
    held = load(args.cache, "held-out") if rank == 0 else None
    steps = len(data.y) // (args.batch * ranks)
    phases = parse_plan(args.res)
    res_of = [res_at(phases, (e + 0.5) / args.epochs) for e in range(args.epochs)]
    total, warm = args.epochs * steps, args.warmup * steps
    small = args.batch // 2

    done, begun = 0.0, time.time()
    for epoch in range(start, args.epochs):
        if done >= 1:
            break
        t0 = time.time()
        nets.train()
        pick = random.Random(f"{args.seed}/{epoch}")       # the same on every rank
        res = lambda: res_at(phases, done) if args.minutes else res_of[epoch]
        ramp = 0.0
        sums = {}
        for step, (x, y) in enumerate(data.epoch(args.seed, epoch, args.batch, rank, ranks, res)):
            t = epoch * steps + step
            lr = args.lr * (t / warm if t < warm else
                            0.002 + 0.998 * (total - t) / (total - warm))
            if args.minutes:
                if done >= 1:
                    break
                lr = args.lr * (1 - done)
            for g in opt.param_groups:
                g["lr"] = lr
            ramp = min(1.0, max(0.0, (t / steps - 0.5) / 1.5))
            shares = [0 if s[4] == 1 else s[4] for s in STITCHES]
            drawn = pick.choices(range(len(shares) + 1), shares + [1 - sum(shares)])[0]
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                feats = {n: net.features(x) for n, net in nets.items() if n != "resnet-s"}
                feats["resnet-s"] = nets["resnet-s"].features(x, args.own)
                logits = {n: net.head(feats[n][-1]).float() for n, net in nets.items()}
                teacher = logits["resnet-12w"].detach()
                parts = {
                    "resnet-12w": F.cross_entropy(logits["resnet-12w"], y, label_smoothing=args.smooth),
                    "resnet-8": soft_loss(logits["resnet-8"], teacher, y, args.distil),
                    "resnet-s": soft_loss(logits["resnet-s"], teacher, y, args.distil),
                }
                loss = sum(parts.values())
                fresh = [m.batch(feats[a][i][:small], feats[b][j][:small])
                         for m, (a, i, b, j, *_) in zip(moments, STITCHES)]
                for k, (a, i, b, j, share, weight) in enumerate(STITCHES):
                    if ramp == 0 or (share < 1 and k != drawn):
                        continue
                    w, bias = moments[k].solve(fresh[k])
                    # resnet-8 is not asked to serve resnet-s's features: its
                    # rest is too small to serve two masters, so only the
                    # front of resnet-s learns from their stitch.
                    given = a == "resnet-s"
                    p = F.conv2d(feats[a][i][:small], w, bias)
                    f = feats[b][j][:small].float()
                    if given:
                        f = f.detach()
                        nets[b].requires_grad_(False)
                    align = (p.float() - f).square().mean() / f.detach().var((0, 2, 3)).mean()
                    out = nets[b].rest(p, j).float()
                    nets[b].requires_grad_(True)
                    path = soft_loss(out, teacher[:small], y[:small], args.distil)
                    loss = loss + ramp * weight * (args.align * align + args.path * path)
                    parts[f"align {a}.{i}>{b}.{j}"] = align
                    parts[f"path {a}.{i}>{b}.{j}"] = path
            opt.zero_grad(set_to_none=True)
            loss.backward()
            if dist is not None:
                spent = (time.time() - begun) / 60 if rank == 0 else 0.0
                flat = torch.cat([p.grad.reshape(-1) for p in params] + [m.reshape(-1) for m in fresh]
                                 + [torch.tensor([spent * ranks])])
                dist.all_reduce(flat)
                flat.div_(ranks)
                at = 0
                for p in params:
                    p.grad.copy_(flat[at:at + p.numel()].view_as(p))
                    at += p.numel()
                for k, m in enumerate(fresh):
                    fresh[k] = flat[at:at + m.numel()].view_as(m)
                    at += m.numel()
                if args.minutes:      # rank 0's clock is everyone's
                    done = float(flat[-1]) / args.minutes
            elif args.minutes:
                done = (time.time() - begun) / 60 / args.minutes
            for m, v in zip(moments, fresh):
                m.update(v)
            parts["gradient norm"] = torch.nn.utils.clip_grad_norm_(params, args.clip)
            opt.step()
            if ema is not None:
                d = min(args.ema, (1 + t) / (10 + t))
                with torch.no_grad():
                    for e, p in zip(ema.state_dict().values(), nets.state_dict().values()):
                        if e.is_floating_point():
                            e.lerp_(p, 1 - d)
                        else:
                            e.copy_(p)
            for n, v in parts.items():
                s = sums.setdefault(n, [0.0, 0])
                s[0] += float(v.detach())
                s[1] += 1
            if rank == 0 and step % 50 == 0:
                print(f"epoch {epoch} step {step}/{steps} res {x.shape[-1]} lr {lr:.4f} "
                      f"loss {float(loss.detach()):.3f} {time.time() - t0:.0f}s", flush=True)
        if dist is not None:      # running statistics: the mean over the ranks
            bufs = [b for b in nets.buffers() if b.is_floating_point()]
            flat = torch.cat([b.reshape(-1) for b in bufs])
            dist.all_reduce(flat)
            flat.div_(ranks)
            at = 0
            for b in bufs:
                b.copy_(flat[at:at + b.numel()].view_as(b))
                at += b.numel()
        if rank == 0:
            elapsed += time.time() - t0
            settled = copy.deepcopy(ema)
            settle(settled, sample[:4096 if done >= 1 or epoch + 1 == args.epochs else 1536])
            row = {"epoch": epoch + 1, "of": args.epochs, "steps": step, "res": x.shape[-1], "lr": round(lr, 5),
                   "seconds": round(time.time() - t0, 1), "elapsed": round(elapsed, 1),
                   "loss": {n: round(s / k, 4) for n, (s, k) in sorted(sums.items())},
                   "held_out": {n: round(accuracy(net, *held), 4) for n, net in settled.items()}}
            save(ckpt, {"nets": nets.state_dict(), "ema": ema.state_dict(),
                        "settled": settled.state_dict(), "opt": opt.state_dict(),
                        "moments": [m.m for m in moments], "epoch": epoch + 1, "elapsed": elapsed})
            with open(log, "a") as f:
                f.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
        if dist is not None:
            dist.barrier()


def save(path, obj):
    torch.save(obj, path + ".part")
    os.replace(path + ".part", path)


@torch.no_grad()
def settle(nets, x):
    """Batch-norm statistics of averaged weights: not the average of the
    statistics, so they are measured anew on training images."""
    for m in nets.modules():
        if isinstance(m, Norm):
            m.reset_running_stats()
            m.train()
    for n, at in enumerate(range(0, len(x), 256)):
        b = normalise(np.ascontiguousarray(x[at:at + 256].transpose(0, 3, 1, 2)))
        for m in nets.modules():
            if isinstance(m, Norm):
                m.momentum = 1 / (n + 1)
        for net in nets.values():
            net(b)
    nets.eval()


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
    if not args.resume:
        for f in ("checkpoint.pt", "train.log.jsonl"):
            if os.path.exists(os.path.join(args.out, f)):
                sys.exit(f"{args.out} holds a run already: give --resume or another --out")
    args.rendezvous = os.path.join(tempfile.mkdtemp(), "rendezvous")
    if args.procs == 1:
        return worker(0, 1, args)
    torch.multiprocessing.spawn(worker, (args.procs, args), nprocs=args.procs)


# ------------------------------------------------------------------ export

def load_trained(out):
    nets = build()
    c = torch.load(os.path.join(out, "checkpoint.pt"), map_location="cpu", weights_only=True)
    nets.load_state_dict(c["settled"])
    return nets.eval(), c["epoch"]


def export(args):
    import onnx
    nets, epoch = load_trained(args.out)
    print(f"checkpoint of epoch {epoch}")
    for name, net in nets.items():
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
    net = ResNet(*ANCHORS[name])
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
    p = sub.add_parser("train", help="train the three anchors together")
    common(p)
    p.add_argument("--out", required=True, help="folder for checkpoint.pt and train.log.jsonl")
    p.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    p.add_argument("--epochs", type=int, default=40)
    p.add_argument("--minutes", type=float,
                   help="end after so many minutes: the rate (from --lr) and the image sizes then "
                        "follow the clock, not the epochs")
    p.add_argument("--procs", type=int, default=2, help="data-parallel processes")
    p.add_argument("--threads", type=int, default=1, help="threads of each process")
    p.add_argument("--batch", type=int, default=64, help="images per process and step")
    p.add_argument("--lr", type=float, default=0.15, help="peak rate; linear warm-up, then linear decay")
    p.add_argument("--warmup", type=float, default=2, help="epochs of warm-up")
    p.add_argument("--wd", type=float, default=5e-4, help="weight decay of convolution and linear weights")
    p.add_argument("--clip", type=float, default=5.0, help="largest gradient norm")
    p.add_argument("--res", default="20:0.2,24:0.5,32:1", help="image sizes, each up to a share of the run")
    p.add_argument("--smooth", type=float, default=0.05, help="label smoothing of the largest anchor")
    p.add_argument("--distil", type=float, default=0.5, help="share of soft labels")
    p.add_argument("--align", type=float, default=0.1, help="weight of the feature alignment")
    p.add_argument("--path", type=float, default=0.5, help="weight of the stitched paths")
    p.add_argument("--own", type=float, default=0.3,
                   help="share of resnet-s's own gradient that reaches the front it lends to stitches")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights")
    p.add_argument("--moment-decay", type=float, default=0.95)
    p.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True,
                   help="bfloat16 autocast")
    p.add_argument("--seed", type=int, default=1)
    p.set_defaults(run=train)
    p = sub.add_parser("export", help="write the ONNX files of a run's averaged weights")
    p.add_argument("--out", required=True, help="folder of the run")
    p.add_argument("--to", default=HERE, help="folder for the ONNX files")
    p.set_defaults(run=export)
    p = sub.add_parser("evaluate", help="accuracy of the anchors and of the least-squares stitches")
    common(p)
    p.add_argument("--to", default=HERE, help="folder of the ONNX files")
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

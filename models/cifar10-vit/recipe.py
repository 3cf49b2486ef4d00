#!/usr/bin/env python3
"""Recipe of the `cifar10-vit` family: three plain vision transformers for
32x32 images that differ in width alone.

    recipe.py train     --out RUN     train, one checkpoint per epoch in RUN
    recipe.py export    --out RUN     write the three ONNX files
    recipe.py evaluate                float accuracy of the ONNX files

The data set, its parts and the decoded cache are those of the neighbouring
`cifar10-resnet` recipe, whose released resnet-12w serves as the teacher.
The run is planned in wall time, not in epochs: every stage has a share of
`--minutes`, and its rate reaches zero when that share is used up. DATA_CARD.md
says what the released run used.
"""
import argparse
import copy
import importlib.util
import json
import math
import os
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
RESNET = os.path.join(HERE, "..", "cifar10-resnet")
_spec = importlib.util.spec_from_file_location("cifar10_resnet", os.path.join(RESNET, "recipe.py"))
resnet = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(resnet)

PATCH, GRID, HEAD_DIM, DEPTH, MLP = 4, 8, 24, 6, 4
# name -> width; heads follow from HEAD_DIM
ANCHORS = {"vit-48": 48, "vit-72": 72, "vit-96": 96}
# The stages of training, in order: anchor, share of the run, peak rate. A
# later anchor is grown from the one before (see `grow`).
STAGES = (("vit-48", 0.36, 2e-3), ("vit-72", 0.28, 1.5e-3), ("vit-96", 0.36, 1.2e-3))
# Tokens of a batch that are run, each up to a share of a stage: attention and the
# final mean do without most of them until the end.
TOKENS = ((16, 0.4), (32, 0.75), (GRID * GRID, 1))


# ---------------------------------------------------------------- networks

class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.heads = d // HEAD_DIM
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, MLP * d), nn.Linear(MLP * d, d)

    def attention(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, HEAD_DIM).permute(2, 0, 3, 1, 4).unbind(0)
        if self.training:
            y = F.scaled_dot_product_attention(q, k, v)
        else:       # the same, as the operators that the ONNX file shall hold
            y = torch.softmax((q * HEAD_DIM ** -0.5) @ k.transpose(-2, -1), dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Patches of 4x4 pixels, learned positions, pre-norm blocks, the mean of
    the tokens, a linear layer. No class token."""

    def __init__(self, d):
        super().__init__()
        self.patch = nn.Conv2d(3, d, PATCH, PATCH)
        self.pos = nn.Parameter(0.02 * torch.randn(1, GRID * GRID, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, len(resnet.LABELS))
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.trunc_normal_(m.weight, std=m.in_features ** -0.5 / 2)
                nn.init.zeros_(m.bias)

    def forward(self, x, keep=None):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.pos
        if keep is not None:
            x = x[:, keep]
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x).mean(1))


def grow(small, large, seed):
    """Starts `large` as a widened copy of `small`: every channel, hidden unit
    and head of `large` repeats one of `small`, and the weights that read a
    repeated channel are shared out among its copies at random, so that the
    copies can part. The features of both stay related by a linear map."""
    g = torch.Generator().manual_seed(seed)
    a, b = (n.patch.out_channels for n in (small, large))
    wide = torch.arange(b) % a
    hidden = torch.arange(MLP * b) % (MLP * a)
    qkv = torch.cat([wide + part * a for part in range(3)])

    def linear(src, dst, rows, cols):
        share = torch.rand(len(rows), len(cols), generator=g) + 0.5
        total = torch.zeros(len(rows), src.in_features).index_add_(1, cols, share)
        dst.weight.copy_(src.weight[rows][:, cols] * share / total[:, cols])
        dst.bias.copy_(src.bias[rows])

    def norm(src, dst):
        dst.weight.copy_(src.weight[wide])
        dst.bias.copy_(src.bias[wide])

    with torch.no_grad():
        large.patch.weight.copy_(small.patch.weight[wide])
        large.patch.bias.copy_(small.patch.bias[wide])
        large.pos.copy_(small.pos[..., wide])
        for s, d in zip(small.blocks, large.blocks):
            norm(s.norm1, d.norm1)
            norm(s.norm2, d.norm2)
            linear(s.qkv, d.qkv, qkv, wide)
            linear(s.proj, d.proj, wide, wide)
            linear(s.fc1, d.fc1, hidden, wide)
            linear(s.fc2, d.fc2, wide, hidden)
        norm(small.norm, large.norm)
        linear(small.head, large.head, torch.arange(len(resnet.LABELS)), wide)


def count_macs(name):
    d, n = ANCHORS[name], GRID * GRID
    block = n * ((4 + 2 * MLP) * d * d + 2 * n * d)
    return n * 3 * PATCH * PATCH * d + DEPTH * block + d * len(resnet.LABELS)


# ---------------------------------------------------------------- training

def teacher_logits(args, x):
    """Logits of the released resnet-12w for every training image as it is,
    computed once and kept in the cache."""
    path = os.path.join(args.cache, "resnet-12w-logits.npy")
    if not os.path.exists(path):
        net = resnet.read_onnx(os.path.join(resnet.START, "resnet-12w.onnx"), "resnet-12w")
        np.save(path + ".part.npy", resnet.logits_of(net, x).numpy())
        os.replace(path + ".part.npy", path)
    return torch.from_numpy(np.load(path))


class Indexed(resnet.Batches):
    """Batches that carry image numbers in place of labels."""

    def __init__(self, x):
        super().__init__(x, np.arange(len(x)))


def rate(progress, peak, warmup=0.04):
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def parameter_groups(net, wd):
    decay = [p for n, p in net.named_parameters() if p.ndim > 1 and n != "pos"]
    rest = [p for n, p in net.named_parameters() if p.ndim <= 1 or n == "pos"]
    return [{"params": decay, "weight_decay": wd}, {"params": rest, "weight_decay": 0.0}]


def loss_of(logits, labels, soft, args):
    hard = F.cross_entropy(logits, labels, label_smoothing=args.smooth)
    if soft is None:
        return hard
    t = args.temperature
    kl = F.kl_div(F.log_softmax(logits / t, 1), F.softmax(soft / t, 1), reduction="batchmean") * t * t
    return (1 - args.distil) * hard + args.distil * kl


def train_stage(args, index, data, held):
    name, share, peak = STAGES[index]
    budget = args.minutes * 60 * share
    path = os.path.join(args.out, name + ".pt")
    torch.manual_seed(args.seed + index)
    net = ViT(ANCHORS[name])
    if index and not os.path.exists(path):
        before = ViT(ANCHORS[STAGES[index - 1][0]])
        c = torch.load(os.path.join(args.out, STAGES[index - 1][0] + ".pt"), weights_only=True)
        before.load_state_dict(c["ema"])
        grow(before, net, args.seed)
    ema = copy.deepcopy(net).eval()
    opt = torch.optim.AdamW(parameter_groups(net, args.wd), lr=peak, betas=(0.9, 0.98), fused=True)
    done, epoch, step = 0.0, 0, 0
    if os.path.exists(path):
        c = torch.load(path, weights_only=True)
        net.load_state_dict(c["net"])
        ema.load_state_dict(c["ema"])
        opt.load_state_dict(c["opt"])
        done, epoch, step = c["seconds"], c["epoch"], c["step"]
    batches, labels, soft = data
    while done < budget:
        net.train()
        t0, sums, images = time.time(), 0.0, 0
        for x, i in batches.epoch(args.seed + index, epoch, args.batch, 0, 1, 32):
            progress = (done + time.time() - t0) / budget
            if progress >= 1:
                break
            for g in opt.param_groups:
                g["lr"] = rate(progress, peak)
            count = next(count for count, until in TOKENS if progress < until)
            keep = torch.randperm(GRID * GRID)[:count] if count < GRID * GRID else None
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                logits = net(x.contiguous(), keep).float()
            loss = loss_of(logits, labels[i], None if soft is None else soft[i], args)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.clip)
            opt.step()
            step += 1
            average(ema, net, min(args.ema, (1 + step) / (10 + step)))
            sums, images = sums + float(loss.detach()) * len(i), images + len(i)
        done, epoch = done + time.time() - t0, epoch + 1
        row = {"stage": name, "epoch": epoch, "step": step, "images": images,
               "progress": round(min(done / budget, 1), 4), "seconds": round(time.time() - t0, 1),
               "loss": round(sums / max(images, 1), 4)}
        if done >= budget:
            row["held_out"] = round(resnet.accuracy(ema, *held), 4)
        resnet.save(path, {"net": net.state_dict(), "ema": ema.state_dict(), "opt": opt.state_dict(),
                           "seconds": done, "epoch": epoch, "step": step})
        with open(os.path.join(args.out, "train.log.jsonl"), "a") as f:
            f.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


@torch.no_grad()
def average(ema, net, decay):
    e, p = list(ema.parameters()), list(net.parameters())
    torch._foreach_lerp_(e, p, 1 - decay)


def train(args):
    torch.set_num_threads(args.threads)
    resnet.decode(args.data, args.cache)
    os.makedirs(args.out, exist_ok=True)
    if not args.resume and os.path.exists(os.path.join(args.out, "train.log.jsonl")):
        sys.exit(f"{args.out} holds a run already: give --resume or another --out")
    x, y = resnet.load(args.cache, "train")
    data = Indexed(x), torch.from_numpy(y), teacher_logits(args, x) if args.distil > 0 else None
    held = resnet.load(args.cache, "held-out")
    for index in range(len(STAGES)):
        train_stage(args, index, data, held)


# ------------------------------------------------------ export and figures

def export(args):
    for name, d in ANCHORS.items():
        c = torch.load(os.path.join(args.out, name + ".pt"), weights_only=True)
        net = ViT(d)
        net.load_state_dict(c["ema"])
        path = os.path.join(args.to, name + ".onnx")
        torch.onnx.export(net.eval(), (torch.zeros(1, 3, 32, 32),), path + ".part", opset_version=17,
                          input_names=["input"], output_names=["logits"], dynamo=False)
        os.replace(path + ".part", path)
        print(f"{name}: {count_macs(name)} MACs, {sum(p.numel() for p in net.parameters())} parameters, "
              f"{os.path.getsize(path)} bytes, {c['step']} steps")


def read_onnx(path, name):
    """The network of an ONNX file this recipe wrote. The exporter keeps the
    names of everything but linear weights, which it stores transposed under
    numbers, in graph order."""
    import onnx
    from onnx import numpy_helper
    net = ViT(ANCHORS[name])
    graph = onnx.load(path).graph
    tensors = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    state = net.state_dict()
    products = [tensors[n.input[1]] for n in graph.node if n.op_type == "MatMul" and n.input[1] in tensors]
    linear = [k for b in range(DEPTH) for k in (f"blocks.{b}.{m}.weight" for m in ("qkv", "proj", "fc1", "fc2"))]
    if len(products) != len(linear):
        sys.exit(f"{path}: {len(products)} linear layers in the blocks, {len(linear)} expected")
    for k, t in zip(linear, products):
        tensors[k] = t.T
    missing = [k for k in state if k not in tensors]
    if missing:
        sys.exit(f"{path}: no initializer {missing}")
    net.load_state_dict({k: tensors[k] for k in state})
    return net.eval()


def evaluate(args):
    torch.set_num_threads(args.threads)
    resnet.decode(args.data, args.cache)
    x, y = resnet.load(args.cache, args.part)
    for name in ANCHORS:
        net = read_onnx(os.path.join(args.to, name + ".onnx"), name)
        print(f"{name}: {count_macs(name)} MACs, {100 * resnet.accuracy(net, x, y):.2f} %", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)

    def common(p):
        p.add_argument("--data", default=os.path.join(HERE, "../../../shared/data/cifar10-jpeg.tar"),
                       help="tar of train/CLASS/*.jpg and test/CLASS/*.jpg")
        p.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), "stitchkit-cifar10"),
                       help="folder for the decoded images")
        p.add_argument("--threads", type=int, default=1)
    p = sub.add_parser("train", help="train vit-48, grow vit-72 from it, then vit-96")
    common(p)
    p.add_argument("--out", required=True, help="folder for a checkpoint per anchor and train.log.jsonl")
    p.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    p.add_argument("--minutes", type=float, default=240, help="wall time of the whole run")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--wd", type=float, default=0.05, help="weight decay of matrices")
    p.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    p.add_argument("--smooth", type=float, default=0.05, help="label smoothing")
    p.add_argument("--distil", type=float, default=0.5, help="share of the teacher's soft labels, which take minutes to make once")
    p.add_argument("--temperature", type=float, default=2.0, help="of the soft labels")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights")
    p.add_argument("--bf16", action="store_true", help="bfloat16 autocast (slower at these widths on CPUs)")
    p.add_argument("--seed", type=int, default=1)
    p.set_defaults(run=train)
    p = sub.add_parser("export", help="write the ONNX files of a run's averaged weights")
    p.add_argument("--out", required=True, help="folder of the run")
    p.add_argument("--to", default=HERE, help="folder for the ONNX files")
    p.set_defaults(run=export)
    p = sub.add_parser("evaluate", help="accuracy of the anchors as read from their ONNX files")
    common(p)
    p.add_argument("--to", default=HERE, help="folder of the ONNX files")
    p.add_argument("--part", choices=("test", "held-out"), default="test")
    p.set_defaults(run=evaluate)
    args = ap.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

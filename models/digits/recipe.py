#!/usr/bin/env python3
"""Recipe of the `digits` family: three small convolutional networks for the
8x8 handwritten digits that ship with scikit-learn, trained together so that
they can be stitched.

    recipe.py data        write digits.npz (needs scikit-learn)
    recipe.py train       train (a minute or two) and write the ONNX files
    recipe.py evaluate    float accuracy of the ONNX files' anchors and of
                          every least-squares stitch
"""
import argparse
import json
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
MEAN, STD = 0.305, 0.376
SPLIT_SEED, TEST_IMAGES = 7, 500
HELD_OUT_PER_CLASS = 30

# (smaller, unit it is left after, larger, unit it is entered after)
STITCHES = (
    ("digits-s", 0, "digits-m", 0),
    ("digits-s", 1, "digits-m", 1),
    ("digits-s", 1, "digits-m", 2),
    ("digits-m", 0, "digits-l", 0),
    ("digits-m", 1, "digits-l", 1),
    ("digits-m", 1, "digits-l", 2),
    ("digits-m", 2, "digits-l", 2),
    ("digits-m", 2, "digits-l", 3),
)


class Conv(nn.Module):
    def __init__(self, cin, cout, kernel=3, stride=1, groups=1, act=nn.ReLU):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = act()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.first = Conv(c, c)
        self.second = Conv(c, c, act=nn.Identity)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.first(x)) + x)


class Net(nn.Module):
    """Units whose outputs are the cuts, then pooling and a linear layer."""

    def __init__(self, units, channels, pool):
        super().__init__()
        self.units = nn.ModuleList(units)
        self.channels = channels
        self.pool = pool
        self.fc = nn.Linear(channels[-1], 10)

    def features(self, x):
        out = []
        for u in self.units:
            x = u(x)
            out.append(x)
        return out

    def head(self, x):
        return self.fc(torch.flatten(self.pool(x), 1))

    def rest(self, x, after):
        """Logits from a stand-in for unit `after`'s output; batch norms use
        (and keep) their running statistics here."""
        units = list(self.units)[after + 1:]
        norms = [m for u in units for m in u.modules() if isinstance(m, nn.BatchNorm2d)]
        was = [m.training for m in norms]
        for m in norms:
            m.eval()
        for u in units:
            x = u(x)
        for m, t in zip(norms, was):
            m.train(t)
        return self.head(x)

    def forward(self, x):
        return self.head(self.features(x)[-1])


def build():
    return nn.ModuleDict({
        "digits-s": Net([Conv(1, 8), Conv(8, 16, stride=2)], (8, 16), nn.AdaptiveAvgPool2d(1)),
        "digits-m": Net([Conv(1, 24), Conv(24, 48, stride=2, act=nn.ReLU6), Residual(48)],
                        (24, 48, 48), nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))),
        "digits-l": Net([Conv(1, 32),
                         nn.Sequential(Conv(32, 32, stride=2, groups=32), Conv(32, 64, kernel=1)),
                         Residual(64), Conv(64, 64)],
                        (32, 64, 64, 64), nn.AvgPool2d(4)),
    })


def write_data(args):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    d = load_digits()
    x = np.round(d.images * 255 / 16).astype(np.uint8)[..., None]
    y = d.target.astype(np.uint8)
    a, b = train_test_split(np.arange(len(y)), test_size=TEST_IMAGES, stratify=y, random_state=SPLIT_SEED)
    np.savez_compressed(args.npz, x_train=x[a], y_train=y[a], x_test=x[b], y_test=y[b])
    print(f"{args.npz}: {len(a)} train, {len(b)} test")


def load(args, split):
    """`train` leaves out the images that rank stitches: the last of each class, see family.toml."""
    d = np.load(args.npz)
    x, y = d["x_" + split], d["y_" + split].astype(np.int64)
    if split == "train":
        keep = np.ones(len(y), bool)
        for c in range(10):
            keep[np.flatnonzero(y == c)[-HELD_OUT_PER_CLASS:]] = False
        x, y = x[keep], y[keep]
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / STD, torch.from_numpy(y)


def rows(f):
    return f.permute(0, 2, 3, 1).reshape(-1, f.shape[1])


def moments(fx, fy):
    z = torch.cat([rows(fx), torch.ones(rows(fx).shape[0], 1), rows(fy)], 1).double()
    return z.T @ z / len(z)


def solve(m, cin, ridge):
    k = cin + 1
    a = m[:k, :k] + torch.eye(k, dtype=m.dtype) * ridge * m.diagonal()[:cin].mean()
    w = torch.linalg.lstsq(a, m[:k, k:], driver="gelsd").solution.T.float()
    return w[:, :-1, None, None].contiguous(), w[:, -1].contiguous()


def augment(x, rng):
    """Shift by up to one pixel and scale the contrast a little."""
    p = F.pad(x, (1, 1, 1, 1), value=-MEAN / STD)
    win = p.unfold(2, 8, 1).unfold(3, 8, 1)[:, 0]
    n = torch.arange(len(x))
    dy, dx = (torch.from_numpy(rng.choice(3, len(x), p=(0.2, 0.6, 0.2))) for _ in range(2))
    x = win[n, dy, dx][:, None]
    s = torch.from_numpy(rng.uniform(0.85, 1.15, (len(x), 1, 1, 1)).astype(np.float32))
    return (x + MEAN / STD) * s - MEAN / STD


def soft_loss(logits, teacher, y, share=0.5, temp=2.0):
    kl = F.kl_div(F.log_softmax(logits / temp, 1), F.log_softmax(teacher / temp, 1),
                  reduction="batchmean", log_target=True) * temp * temp
    return (1 - share) * F.cross_entropy(logits, y) + share * kl


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    x, y = load(args, "train")
    nets = build()
    opt = torch.optim.AdamW(nets.parameters(), lr=args.lr, weight_decay=0.02)
    steps = len(x) // args.batch
    total = args.epochs * steps
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, args.lr, total, pct_start=0.15)
    m = [None] * len(STITCHES)
    for epoch in range(args.epochs):
        nets.train()
        order = torch.from_numpy(rng.permutation(len(x)))
        last = 0.0
        for s in range(steps):
            i = order[s * args.batch:(s + 1) * args.batch]
            bx, by = augment(x[i], rng), y[i]
            feats = {n: net.features(bx) for n, net in nets.items()}
            logits = {n: net.head(feats[n][-1]) for n, net in nets.items()}
            teacher = logits["digits-l"].detach()
            loss = F.cross_entropy(logits["digits-l"], by, label_smoothing=0.05)
            loss = loss + sum(soft_loss(logits[n], teacher, by) for n in ("digits-m", "digits-s"))
            ramp = min(1.0, max(0.0, (epoch - 2) / 8))
            for k, (a, ca, b, cb) in enumerate(STITCHES):
                fx, fy = feats[a][ca], feats[b][cb]
                if ramp > 0:
                    w, bias = solve(m[k], nets[a].channels[ca], 1e-4)
                    p = F.conv2d(fx, w, bias)
                    align = (p - fy).square().mean() / fy.detach().var()
                    path = soft_loss(nets[b].rest(p, cb), teacher, by)
                    loss = loss + ramp * (args.align * align + args.path * path)
                with torch.no_grad():
                    new = moments(fx, fy)
                    m[k] = new if m[k] is None else 0.95 * m[k] + 0.05 * new
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(nets.parameters(), 5.0)
            opt.step()
            sched.step()
            last += float(loss.detach()) / steps
        if epoch % 10 == 9 or epoch + 1 == args.epochs:
            print(f"epoch {epoch + 1}/{args.epochs} loss {last:.4f}", flush=True)
    nets.eval()
    for name, net in nets.items():
        path = os.path.join(args.to, name + ".onnx")
        # The exporter folds the batch norms of a network in eval mode.
        torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), path, opset_version=17, dynamo=False,
                          input_names=["input"], output_names=["logits"])
        print(f"{name}: {os.path.getsize(path)} bytes")
    evaluate(args)


def read_onnx(path, net):
    """The weights of an ONNX file this recipe wrote: its convolutions, with
    the batch norms folded in, in graph order, and the linear layer."""
    from onnx import load as load_onnx, numpy_helper
    g = load_onnx(path).graph
    init = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in g.initializer}
    convs = [n for n in g.node if n.op_type == "Conv"]
    units = [m for m in net.modules() if isinstance(m, Conv)]
    assert len(convs) == len(units), path
    for node, unit in zip(convs, units):
        w, b = (init[k] for k in node.input[1:3])
        assert w.shape == unit.conv.weight.shape, (path, node.name)
        unit.conv.weight, unit.conv.bias = nn.Parameter(w), nn.Parameter(b)
        unit.bn = nn.Identity()
    fc, = (n for n in g.node if n.op_type == "Gemm")
    net.fc.weight, net.fc.bias = (nn.Parameter(init[k]) for k in fc.input[1:3])
    return sum(v.numel() for v in init.values() if v.ndim > 1)


@torch.no_grad()
def evaluate(args):
    torch.set_num_threads(args.threads)
    nets = build()
    size = {n: read_onnx(os.path.join(args.to, n + ".onnx"), net) for n, net in nets.items()}
    nets.eval()
    x, y = load(args, "test")
    cx, _ = load(args, "train")
    cx = cx[torch.from_numpy(np.random.default_rng(args.seed).permutation(len(cx))[:args.images])]
    acc, out = {}, []
    for n, net in nets.items():
        logits = net(x)
        acc[n] = float((logits.argmax(1) == y).float().mean())
        print(f"{n:48s} {100 * acc[n]:6.2f} %   {size[n]} weights")
    for a, ca, b, cb in STITCHES:
        fx, fy = nets[a].features(cx)[ca], nets[b].features(cx)[cb]
        w, bias = solve(moments(fx, fy), nets[a].channels[ca], 0.0)
        r2 = 1 - float((F.conv2d(fx, w, bias) - fy).square().sum() / (fy - fy.mean((0, 2, 3), True)).square().sum())
        p = F.conv2d(nets[a].features(x)[ca], w, bias)
        got = float((nets[b].rest(p, cb).argmax(1) == y).float().mean())
        label = f"{a} after unit {ca} > {b} after unit {cb}"
        print(f"{label:48s} {100 * got:6.2f} %   R2 {r2:.3f}  ({100 * (got - acc[a]):+.2f} against {a})")
        out.append({"stitch": label, "r2": round(r2, 4), "accuracy": round(got, 4)})
    print(json.dumps({"images": len(y), "calibration": args.images,
                      "anchors": {n: round(v, 4) for n, v in acc.items()}, "stitches": out}))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=("data", "train", "evaluate"))
    ap.add_argument("--npz", default=os.path.join(HERE, "digits.npz"))
    ap.add_argument("--to", default=HERE, help="folder for the ONNX files")
    ap.add_argument("--epochs", type=int, default=100)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--align", type=float, default=0.1, help="weight of the feature alignment")
    ap.add_argument("--path", type=float, default=0.5, help="weight of the stitched paths")
    ap.add_argument("--images", type=int, default=512, help="calibration images")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    {"data": write_data, "train": train, "evaluate": evaluate}[args.command](args)


if __name__ == "__main__":
    main()

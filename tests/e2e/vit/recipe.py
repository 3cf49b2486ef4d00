"""Trains the two small vision transformers of this folder on the images of models/digits and writes them as ONNX.

usage: python recipe.py        needs torch and numpy; a minute on one core

16 tokens of 2x2 pixels, 3 blocks, widths 12 and 16. tiny.onnx has one layer for queries, keys and values, small.onnx three, as
different exporters write them. They share nothing but the images.
"""
import pathlib

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
MEAN, STD = 0.305, 0.376


class Attention(nn.Module):
    def __init__(self, width, heads, joined):
        super().__init__()
        self.heads, self.joined = heads, joined
        parts = [3 * width] if joined else [width] * 3
        self.parts = nn.ModuleList(nn.Linear(width, part) for part in parts)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        shape = (b, n, self.heads, c // self.heads)
        if self.joined:
            q, k, v = self.parts[0](x).reshape(b, n, 3, *shape[2:]).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (part(x).reshape(shape).transpose(1, 2) for part in self.parts)
        shares = (q @ k.transpose(-2, -1) * shape[3] ** -0.5).softmax(-1)
        return self.proj((shares @ v).transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, width, heads, joined):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, joined)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x):
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


class Transformer(nn.Module):
    def __init__(self, width, heads, joined, depth=3):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.ModuleList(Block(width, heads, joined) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def images(split):
    file = np.load(HERE / "../../../models/digits/digits.npz")
    pixels = torch.tensor(file[f"x_{split}"], dtype=torch.float32).reshape(-1, 1, 8, 8) / 255
    return (pixels - MEAN) / STD, torch.tensor(file[f"y_{split}"], dtype=torch.long)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = images("train"), images("test")
    for name, width, heads, joined in (("tiny", 12, 2, True), ("small", 16, 2, False)):
        network = Transformer(width, heads, joined)
        epochs, batch = 40, 64
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, epochs * (len(x) // batch))
        for _ in range(epochs):
            for chosen in torch.randperm(len(x))[: len(x) // batch * batch].split(batch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
                optimizer.step()
                schedule.step()
        network.eval()
        print(name, float((network(test_x).argmax(1) == test_y).float().mean()))
        torch.onnx.export(network, x[:1], str(HERE / f"{name}.onnx"), input_names=["input"], output_names=["logits"], opset_version=17, dynamo=False)


main()

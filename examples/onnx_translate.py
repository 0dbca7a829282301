"""Translate a picture with an exported generator, without magstain and PyTorch. Research only: not for clinical use.

python onnx_translate.py generator.onnx he.png ihc.png      (pip install onnxruntime pillow numpy)
"""

import argparse

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

parser = argparse.ArgumentParser()
for name in ("generator", "he", "ihc"):
    parser.add_argument(name, metavar=name.upper())
files = parser.parse_args()
try:
    session = onnxruntime.InferenceSession(files.generator, providers=["CPUExecutionProvider"])
    picture = ImageOps.exif_transpose(Image.open(files.he))  # upright
    if picture.mode not in ("RGB", "L", "1", "P", "RGBA", "LA") or picture.convert("RGBA").getextrema()[3][0] < 255:
        parser.exit(2, f"error: {files.he}: save it as RGB of 8 bits without transparent pixels\n")
    he = np.asarray(picture.convert("RGB"), np.float32) / 127.5 - 1  # [H,W,3] of any sides
    (ihc,) = session.run(["ihc"], {"he": he.transpose(2, 0, 1)[None]})  # [1,3,H,W]
    levels = (ihc[0].transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5
    Image.fromarray(levels.round().astype(np.uint8)).save(files.ihc)
except Exception as error:  # libraries raise kinds of their own: one line says what is wrong
    parser.exit(2, f"error: {' '.join(str(error).split())}\n")
print(f"wrote {files.ihc}: not for clinical use")

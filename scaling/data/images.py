"""Convert Pillow images to arrays of one size. Shapes: H, W, C as in labelled.py."""

from __future__ import annotations

import numpy as np

from scaling.utils.errors import UserError


def require_size(shape: tuple[int, int, int], name: str) -> None:
    """Check the target size of images. Raises UserError naming the keys."""
    height, width, channels = shape
    if height < 1 or width < 1 or channels not in (1, 3):
        raise UserError(
            f"config.data: height={height}, width={width}, channels={channels}: images of {name} "
            "are resized to config.data.height and width, which should be positive, and "
            "config.data.channels should be 1 or 3"
        )


def fit(image, shape: tuple[int, int, int]) -> np.ndarray:
    """Return `x_HWC` uint8: the largest middle part of that aspect ratio, resized bilinearly."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape)

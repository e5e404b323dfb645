"""Matrices in blocks, decoded with numpy as docs/format.md says, and nothing else."""
import numpy as np

Q4_VALUES = np.array([-127, -99, -77, -60, -45, -32, -20, -9, 1, 10, 20, 32, 46, 61, 80, 106], dtype=np.float32)
BLOCK_BYTES = {"Q8": 544, "Q4": 288}


def type_of(entry_dtype, shape):
    """"Q8", "Q4", or the plain dtype."""
    if entry_dtype != "U8":
        return entry_dtype
    return {size: name for name, size in BLOCK_BYTES.items()}[shape[2]]


def scales_and_values(data, shape):
    """[16 panels, blocks], the scale of each row's block, and [16 panels, blocks, 32], its values."""
    panels, blocks, size = shape
    raw = np.frombuffer(data, dtype=np.uint8).reshape(panels, blocks, size)
    scales = np.ascontiguousarray(raw[:, :, :32]).view("<f2").astype(np.float32)  # [panels, blocks, 16]
    codes = raw[:, :, 32:].reshape(panels, blocks, -1, 16, 4)  # groups of 4 columns, rows, columns of the group
    columns = codes.transpose(0, 3, 1, 2, 4)  # [panels, rows, blocks, groups, 4]
    columns = columns.reshape(panels * 16, blocks, -1)
    if size == BLOCK_BYTES["Q8"]:
        values = columns.astype(np.float32) - 128
    else:
        values = Q4_VALUES[np.concatenate([columns & 15, columns >> 4], axis=2)]
    return scales.transpose(0, 2, 1).reshape(panels * 16, blocks), values


def decode(data, shape, rows, columns):
    """float32 [rows, columns]"""
    scales, values = scales_and_values(data, shape)
    return (scales[:, :, None] * values).reshape(len(scales), -1)[:rows, :columns]

"""What nvcc made of the kernels of libfinermoe_cuda.so: code for every architecture asked for and PTX of the last; no
kernel spills registers; decoding reads weights and the cache 128 bits at a time; prompts are multiplied on tensor cores.

    code.py MODULE ARCHITECTURE…"""

import os
import pathlib
import sys

if len(sys.argv) < 2:
    print("skipped: libfinermoe_cuda was not built: there is no nvcc")
    sys.exit(77)
sys.path.insert(0, str(pathlib.Path(os.environ["FINERMOE_SOURCE"]) / "scripts"))
import gpu_kernels  # noqa: E402

if gpu_kernels.find_cuobjdump() is None:
    print("skipped: cuobjdump (nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm) is not here")
    sys.exit(77)

# What decoding spends its time in, and how many 128-bit loads through the read-only path each has at least: of a panel's
# product 2 rows each for BF16, F16 and F32, and a block each of Q8 and Q4; keys and values of attention.
PANEL = 3 * 2 + 2
DECODING = {"linear_of_few<1>": PANEL, "linear_of_few<4>": PANEL, "activate_few<1>": 2 * PANEL,
            "activate_few<4>": 2 * PANEL, "project_few": PANEL, "attend<64>": 2, "attend<128>": 2, "attend<256>": 2}
# How many products of 16 × 8 × 16 a warp computes at once in each kernel on tensor cores: two steps along the columns of a
# 2 × 2 or 4 × 4 part of a tile.
ON_TENSORS = {f"{kernel}<{half}, {tile}>": products for kernel in ("linear_of_tensors", "activate_on_tensors",
                                                                  "project_on_tensors")
              for half in ("BF16", "F16") for tile, products in ((64, 2 * 2 * 2), (128, 2 * 4 * 4))}
# Scores of a tile of positions, 8 at a time, 16 columns of a head; its values, 16 positions and 8 columns at a time.
ON_TENSORS |= {f"attend_on_tensors<{columns}>": positions // 8 + positions // 16 * columns // 8
               for columns, positions in ((64, 64), (128, 64), (256, 16))}
LEAST_OF_TENSORS = 80  # least_compute_of_tensors of src/cuda/driver.h

module, archs = sys.argv[1], [int(arch) for arch in sys.argv[2:]]
n_sources = len(list((pathlib.Path(os.environ["FINERMOE_SOURCE"]) / "src/cuda/kernels").glob("*.cu")))
findings = []
code, ptx = gpu_kernels.code_of(module)
for kind, found, wanted in (("code", code, archs), ("PTX", ptx, archs[-1:])):
    expected = {arch: n_sources for arch in wanted}
    if found != expected:
        findings.append(f"{kind}: expected {expected} (architecture: sources), found {dict(found)}")

kernels = gpu_kernels.kernels_of(module)
for arch, of_arch in kernels.items():
    for name, kernel in of_arch.items():
        if kernel.stack or kernel.local or kernel.spilled:
            findings.append(f"{name}, {arch}: {kernel.stack} bytes of stack, {kernel.local} of local memory, "
                            f"{kernel.spilled} instructions that touch it")
        if kernel.threads is None:
            findings.append(f"{name}, {arch}: no __launch_bounds__, without which nothing says how many threads it has")
    for name, least in DECODING.items():
        if name not in of_arch:
            findings.append(f"{name}, {arch}: not there")
            continue
        wide = sum(count for load, count in of_arch[name].loads.items()
                   if load.startswith("LDG.E.128") and "CONSTANT" in load)
        if wide < least:
            findings.append(f"{name}, {arch}: expected {least} loads of 128 bits at least, found {wide}: "
                            f"{of_arch[name].loads}")
        if any(load.startswith("LD.") and ".128" in load for load in of_arch[name].loads):
            findings.append(f"{name}, {arch}: reads 128 bits at addresses that could be anywhere: "
                            f"{of_arch[name].loads}")

    for name, least in ON_TENSORS.items():
        found = of_arch[name].products if name in of_arch else "no such kernel"
        if name not in of_arch or (arch >= LEAST_OF_TENSORS and found < least):
            findings.append(f"{name}, {arch}: expected {least} instructions of tensor cores at least, found {found}")

print("\n".join(findings) or f"{ {arch: len(of_arch) for arch, of_arch in kernels.items()} } kernels, all as they should be")
sys.exit(1 if findings or not kernels else 0)

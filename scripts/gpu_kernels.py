"""What nvcc made of the kernels of libfinermoe_cuda.so, read with NVIDIA's cuobjdump:

    gpu_kernels.py MODULE      a table: registers, shared memory, and the share of a multiprocessor's warps that can be
                               resident with them, computed for each architecture that the module has code for

tests/cuda/code.py checks what is read here."""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys

# Of a multiprocessor: warps, blocks, bytes of shared memory, and those of each block that the system takes. All have
# 65536 registers, given to a warp by 256, and shared memory given by 128 bytes, or 256 before 8.0.
Limits = collections.namedtuple("Limits", "warps blocks shared of_system")
LIMITS = {75: Limits(32, 16, 64 << 10, 0), 80: Limits(64, 32, 164 << 10, 1024), 86: Limits(48, 16, 100 << 10, 1024),
          89: Limits(48, 24, 100 << 10, 1024), 90: Limits(64, 32, 228 << 10, 1024),
          100: Limits(64, 32, 228 << 10, 1024)}

# `spilled` counts instructions that touch a thread's local memory, `products` those of tensor cores, `loads` those of device
# memory by their name.
Kernel = collections.namedtuple("Kernel", "registers stack shared local threads spilled products loads")

DTYPES = ["F32", "F16", "BF16", "Q8", "Q4"]  # base/dtype.h


def cuobjdump(*arguments):
    """What it prints. It finds nvdisasm on PATH; NVIDIA's wheels put both into one folder, beside nvcc."""
    path = os.environ["PATH"]
    if tool := find_cuobjdump():
        path = f"{pathlib.Path(tool).parent}{os.pathsep}{path}"
    return subprocess.run([tool or "cuobjdump", *map(str, arguments)], capture_output=True, text=True, check=True,
                          env={**os.environ, "PATH": path}).stdout


def find_cuobjdump():
    """Its path, on PATH or in the Python environment in use; None if it is in neither."""
    try:
        import nvidia
        of_python = [str(folder) for place in nvidia.__path__ for folder in pathlib.Path(place).glob("cu1[3-9]/bin")]
    except ImportError:
        of_python = []
    return shutil.which("cuobjdump") or shutil.which("cuobjdump", path=os.pathsep.join(of_python))


def short_names(mangled):
    """attend<64> for what the compiler calls _ZN8finermoe4cuda…6attendILj64EEEvNS0_6AttendE; types by their names."""
    mangled = sorted(mangled)
    demangled = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    names = {}
    for name, plain in zip(mangled, demangled.splitlines()):
        found = re.search(r"\(anonymous namespace\)::(\w+(?:<[^>]*>)?)", plain)
        short = re.sub(r"\(finermoe::DType\)(\d+)", lambda dtype: DTYPES[int(dtype[1])], found[1] if found else plain)
        names[name] = re.sub(r"\b(\d+)u\b", r"\1", short)
    return names


def parts_of(text):
    """(architecture, text) of each piece of code in what cuobjdump prints."""
    for part in re.split(r"^Fatbin \w+ code:$", text, flags=re.M)[1:]:
        yield int(re.search(r"^arch = sm_(\d+)", part, re.M)[1]), part


def code_of(module):
    """({architecture: number of pieces of code}, the same of PTX) that the module has."""
    of = lambda option: collections.Counter(map(int, re.findall(r"\.sm_(\d+)\w*\.\w+$", cuobjdump(option, module), re.M)))
    return of("-lelf"), of("-lptx")


def kernels_of(module):
    """{architecture: {name: Kernel}}"""
    threads = {}
    for _, part in parts_of(cuobjdump("-ptx", module)):
        for name, head in re.findall(r"\.entry (\w+)\((.*?)^\{", part, re.M | re.S):
            if found := re.search(r"\.maxntid (\d+)", head):
                threads[name] = int(found[1])
    instructions = {}
    for arch, part in parts_of(cuobjdump("-sass", module)):
        for function in re.split(r"^\s*Function : ", part, flags=re.M)[1:]:
            used = collections.Counter(re.findall(r"^\s*/\*\w+\*/\s+(?:@!?\w+ )?([A-Z][\w.]*)", function, re.M))
            instructions[arch, function.split(None, 1)[0]] = used
    found = {}
    for arch, part in parts_of(cuobjdump("--dump-resource-usage", module)):
        for name, usage in re.findall(r"^ Function (\w+):\n(.*)$", part, re.M):
            value = lambda key: int(re.search(rf"\b{key}:(\d+)", usage)[1])
            used = instructions[arch, name]
            loads = {name: count for name, count in used.items() if name.split(".")[0] in ("LDG", "LD")}
            spilled = sum(count for name, count in used.items() if name.split(".")[0] in ("LDL", "STL"))
            products = sum(count for name, count in used.items() if name.split(".")[0] == "HMMA")
            found.setdefault(arch, {})[name] = Kernel(value("REG"), value("STACK"), value("SHARED"), value("LOCAL"),
                                                      threads.get(name), spilled, products, loads)
    names = short_names({name for kernels in found.values() for name in kernels})
    return {arch: {names[name]: kernel for name, kernel in kernels.items()} for arch, kernels in found.items()}


def own_shared(arch, kernel):
    """Bytes of a block's shared memory. From 9.0 on, cuobjdump adds what the system takes, if the kernel uses any."""
    return kernel.shared - LIMITS[arch].of_system if arch >= 90 and kernel.shared else kernel.shared


def occupancy(arch, kernel):
    """The share of a multiprocessor's warps that can be resident, 0 to 1."""
    up = lambda value, unit: -(-value // unit) * unit
    limits, warps = LIMITS[arch], -(-kernel.threads // 32)
    shared = up(own_shared(arch, kernel) + limits.of_system, 256 if arch < 80 else 128)
    by_registers = 65536 // 4 // up(kernel.registers * 32, 256) * 4 // warps  # each quarter has registers of its own
    by_shared = limits.shared // shared if shared else limits.blocks
    return min(limits.warps // warps, limits.blocks, by_registers, by_shared) * warps / limits.warps


def table(module):
    found = {arch: kernels for arch, kernels in sorted(kernels_of(module).items()) if arch in LIMITS}
    yield "| kernel | threads | shared memory | " + " | ".join(f"{arch // 10}.{arch % 10}" for arch in found) + " |"
    yield "|---|---|---|" + "---|" * len(found)
    for name in sorted(set().union(*found.values())):
        cells = []
        for arch, kernels in found.items():
            kernel = kernels[name]
            cells.append(f"{kernel.registers}, {round(100 * occupancy(arch, kernel))} %")
        arch, kernels = next(iter(found.items()))
        yield (f"| `{name}` | {kernels[name].threads} | {own_shared(arch, kernels[name])} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(table(sys.argv[1])))

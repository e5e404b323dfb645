"""libfinermoe_cuda.so as the linker made it: its entry is all that it shows, and it needs neither NVIDIA's driver nor the
CUDA runtime to be loaded. module.py MODULE"""

import os
import re
import shutil
import subprocess
import sys


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


if len(sys.argv) < 2:
    print("skipped: libfinermoe_cuda was not built: there is no nvcc")
    sys.exit(77)
for name in ("nm", "readelf"):
    if shutil.which(name) is None:
        print(f"skipped: {name} (binutils) is not here")
        sys.exit(77)

module = sys.argv[1]
shown = [line.split()[-1] for line in tool("nm", "-D", "--defined-only", module).splitlines()]
needed = re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-d", module))
findings = [f"{name} is visible" for name in shown if name != "finermoe_device_module"]
if "finermoe_device_module" not in shown:
    findings.append("finermoe_device_module is not visible")
findings += [f"needs {name}" for name in needed if re.match(r"lib(cuda|nv)", name)]
print("\n".join(findings) or f"shows {shown}, needs {needed}")
sys.exit(1 if findings else 0)

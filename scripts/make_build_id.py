"""Writes the header build_id.h: what identifies a build to the device modules that it opens (src/placement/devices.h).

    make_build_id.py OUTPUT VERSION COMPILER COMPILER_VERSION SANITIZER HEADER…
"""

import hashlib
import pathlib
import sys

output, *description = sys.argv[1:6]
digest = hashlib.sha256()
for header in sorted(sys.argv[6:], key=lambda path: pathlib.Path(path).parts[-2:]):
    digest.update(pathlib.Path(header).read_bytes())
pathlib.Path(output).write_text(f'#define FINERMOE_BUILD_ID "{" ".join(description)} {digest.hexdigest()[:16]}"\n')

"""Reading safetensors checkpoints with the standard library alone, and running convert_driver."""
import json
import os
import struct
import subprocess
import sys

DRIVER = sys.argv[1]
SOURCE = os.environ["FINERMOE_SOURCE"]
SHAPES = os.path.join(SOURCE, "tests/data/shapes")
MODELS = os.path.join(SOURCE, "examples/models")
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}


def run(command, *arguments, expect=0):
    """The driver's JSON answer; with expect, an error code, its message."""
    done = subprocess.run([DRIVER, command, *map(str, arguments)], capture_output=True, text=True)
    if expect:
        assert done.returncode == 1 and done.stdout.startswith(f"error {expect}: "), (expect, done)
        return done.stdout
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def opens(path):
    return subprocess.run([DRIVER, "open", path], capture_output=True).returncode == 0


def read_file(path):
    """{name: (dtype, shape, bytes)} and the metadata; checks what the format asks for."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        assert length % 8 == 0, "the data are aligned to 8 bytes"
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__")
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        count = 1
        for extent in entry["shape"]:
            count *= extent
        assert first == end and last - first == count * SIZES[entry["dtype"]], name
        assert first % SIZES[entry["dtype"]] == 0, name
        end = last
        tensors[name] = (entry["dtype"], entry["shape"], data[first:last])
    assert end == len(data), path
    return tensors, metadata


def read_model(path):
    """The tensors of a directory or a single file."""
    if os.path.isfile(path):
        return read_file(path)[0]
    index = os.path.join(path, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_file(os.path.join(path, "model.safetensors"))[0]
    weight_map = read_json(index)["weight_map"]
    tensors = {}
    for name in sorted(set(weight_map.values())):
        tensors.update(read_file(os.path.join(path, name))[0])
    assert set(tensors) == set(weight_map)
    return tensors


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read_tree(path):
    """{relative name: bytes} of everything below a directory."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            with open(full, "rb") as file:
                found[os.path.relpath(full, path)] = file.read()
    return found


def run_tests(functions):
    """Calls each with a directory of its own; a function that returns a text was skipped for that reason."""
    import tempfile

    skipped = []
    for function in functions:
        with tempfile.TemporaryDirectory(prefix="finermoe-") as folder:
            reason = function(folder)
        print(f"{function.__name__}: {'skipped: ' + reason if reason else 'ok'}", flush=True)
        skipped += [function.__name__] if reason else []
    print(f"{len(functions) - len(skipped)} passed, {len(skipped)} skipped")
    sys.exit(77 if skipped and len(skipped) == len(functions) else 0)

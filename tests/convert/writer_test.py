"""What a writer leaves on the disk: whole models or nothing, whatever stops it."""
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import time

from checkpoint_files import DRIVER, MODELS, SHAPES, opens, read_file, read_json, read_tree, run, run_tests

INVALID, CANCELLED, DISK_FULL, NOT_FOUND, EXISTS, UNSUPPORTED = -1, -5, -22, -30, -32, -10
DENSE = f"{SHAPES}/dense-tied"


def write_config(path, **changes):
    """A config.json whose synthesis takes a while: some 96 MB."""
    config = read_json(f"{DENSE}/config.json")
    config.update({"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "vocab_size": 32000})
    config.update(changes)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    return path


def start(*arguments):
    return subprocess.Popen([DRIVER, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_existing_output(folder):
    out = f"{folder}/out"
    run("upcycle", DENSE, out)
    before = read_tree(out)
    run("upcycle", DENSE, out, "--seed", 1, expect=EXISTS)
    run("upcycle", f"{folder}/no-such-model-is-looked-for", out, expect=NOT_FOUND)
    run("synthesize", f"{MODELS}/tiny-wordnet-dense", out, expect=EXISTS)
    # With overwriting, too, the old one stays until the new one is whole.
    run("upcycle", DENSE, out, "--seed", 1, "--force", 1, "--cancel-after", 1000, expect=CANCELLED)
    run("upcycle", DENSE, out, "--force", 1, "--g-i", 7, expect=-63)
    assert read_tree(out) == before and os.listdir(folder) == ["out"]
    run("upcycle", DENSE, out, "--seed", 1, "--force", 1)
    assert read_tree(out) != before and os.listdir(folder) == ["out"] and opens(out)


def test_overwriting_spares_what_is_no_model(folder):
    os.makedirs(f"{folder}/home/letters")
    assert "it holds letters" in run("upcycle", DENSE, f"{folder}/home", "--force", 1, expect=EXISTS)
    os.makedirs(f"{folder}/empty")
    run("upcycle", DENSE, f"{folder}/empty/", "--force", 1)
    run("upcycle", DENSE, f"{folder}/file.safetensors")
    os.chmod(f"{folder}/file.safetensors", 0o640)
    run("upcycle", DENSE, f"{folder}/file.safetensors", "--force", 1)
    assert os.stat(f"{folder}/file.safetensors").st_mode & 0o7777 == 0o640
    assert opens(f"{folder}/empty") and opens(f"{folder}/file.safetensors")


def test_output_and_input_apart(folder):
    run("synthesize", f"{DENSE}/config.json", f"{folder}/outer/dense", expect=NOT_FOUND)
    os.mkdir(f"{folder}/outer")
    run("synthesize", f"{DENSE}/config.json", f"{folder}/outer/dense")
    before = read_tree(folder)
    os.symlink("outer", f"{folder}/link")
    for out in ("outer", "outer/dense", "outer/dense/", "outer/dense/out", "outer/./dense/../dense", "link/dense"):
        run("upcycle", f"{folder}/outer/dense", f"{folder}/{out}", "--force", 1, expect=INVALID)
    run("upcycle", f"{folder}/outer/dense", "", expect=INVALID)
    os.unlink(f"{folder}/link")
    assert read_tree(folder) == before


def test_shards_and_index(folder):
    config = write_config(f"{folder}/config.json")
    limit = 30_000_000
    answer = run("synthesize", config, f"{folder}/out", "--shard-size", limit)
    assert answer["progress_in_order"] and answer["progress_calls"] >= 3
    assert answer["peak_anonymous"] < 100 << 20, "the buffer and little more"
    index = read_json(f"{folder}/out/model.safetensors.index.json")
    names = sorted(set(index["weight_map"].values()))
    n = len(names)
    assert n > 3 and names == [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    total = 0
    for name in names:
        tensors, metadata = read_file(f"{folder}/out/{name}")
        assert metadata == {"format": "pt"}
        size = sum(len(tensor[2]) for tensor in tensors.values())
        assert size <= limit or len(tensors) == 1, "only a tensor larger than a shard has one of its own size"
        assert all(index["weight_map"][key] == name for key in tensors)
        total += size
    assert index["metadata"] == {"total_size": total}
    assert sum(os.path.getsize(f"{folder}/out/{name}") for name in os.listdir(f"{folder}/out")) == answer["bytes"]
    # The same without shards: no index, and the same tensors.
    run("synthesize", config, f"{folder}/one")
    assert sorted(os.listdir(f"{folder}/one")) == ["config.json", "model.safetensors"]
    one, _ = read_file(f"{folder}/one/model.safetensors")
    for name in names:
        for key, tensor in read_file(f"{folder}/out/{name}")[0].items():
            assert one[key] == tensor, key


def test_single_file(folder):
    source = f"{MODELS}/tiny-wordnet-dense"
    out = f"{folder}/model.safetensors"
    run("upcycle", source, out, "--shard-size", 100000)
    run("upcycle", source, f"{folder}/directory")
    assert os.path.isfile(out) and opens(out)
    tensors, metadata = read_file(out)
    assert tensors == read_file(f"{folder}/directory/model.safetensors")[0]
    assert metadata["format"] == "pt"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        text = open(f"{folder}/directory/{name}", encoding="utf-8").read()
        assert [value for key, value in metadata.items() if key.endswith(name) and value == text], name
    # Upcycling from a single file gives the same as from a directory.
    run("synthesize", source, f"{folder}/dense.safetensors")
    run("synthesize", source, f"{folder}/dense")
    run("upcycle", f"{folder}/dense.safetensors", f"{folder}/a")
    run("upcycle", f"{folder}/dense", f"{folder}/b")
    assert read_tree(f"{folder}/a") == read_tree(f"{folder}/b")


def test_texts_byte_for_byte(folder):
    run("synthesize", DENSE, f"{folder}/dense")
    texts = {"LICENSE": b"\xe9 in Latin-1\r\n", "tokenizer_config.json": b'{"a": 1}  ', "NOTICE": b"", "merges.txt": b"#"}
    for name, content in texts.items():
        with open(f"{folder}/dense/{name}", "wb") as file:
            file.write(content)
    run("upcycle", f"{folder}/dense", f"{folder}/out")
    made = read_tree(f"{folder}/out")
    for name, content in texts.items():
        assert made[name] == content, name
    assert "LICENSE" in run("upcycle", f"{folder}/dense", f"{folder}/out.safetensors", expect=UNSUPPORTED)


def test_cancel_leaves_nothing(folder):
    config = write_config(f"{folder}/config.json")
    for after in (0, 1, 20_000_000, 90_000_000):
        for out in ("out", "out.safetensors"):
            run("synthesize", config, f"{folder}/{out}", "--cancel-after", after, expect=CANCELLED)
            assert os.listdir(folder) == ["config.json"]


def nothing_opens(folder, but):
    """No file or directory below opens as a model, at whatever depth, except one."""
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *(file for file in files if not file.endswith(".json"))]:
            path = os.path.join(parent, name)
            if not path.startswith(but):
                assert not opens(path), path


def test_killed(folder):
    os.mkdir(f"{folder}/work")
    config = write_config(f"{folder}/config.json")
    for name in ("out", "out.safetensors"):
        out = f"{folder}/work/{name}"
        arguments = ("synthesize", config, out, "--shard-size", 40_000_000)
        begin = time.monotonic()
        run(*arguments)
        duration = time.monotonic() - begin
        whole = read_tree(f"{folder}/work")
        moments = random.Random(1)
        killed = attempts = 0
        while killed < 6:
            attempts += 1
            assert attempts <= 30, killed
            # OUT is gone, what earlier killed writers left is not.
            subprocess.run(["rm", "-rf", out], check=True)
            child = start(*arguments)
            time.sleep(moments.uniform(0, duration if attempts <= 10 else duration / 4))
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
            nothing_opens(f"{folder}/work", out)
            if os.path.exists(out):  # published in time: then it is whole
                assert opens(out)
        subprocess.run(["rm", "-rf", out], check=True)
        run(*arguments)
        assert read_tree(f"{folder}/work") == whole, "a second run succeeds and clears up after the killed ones"
        # Overwriting: the old one survives.
        for _ in range(3):
            child = start(*arguments, "--force", 1, "--seed", 1)
            time.sleep(moments.uniform(0, duration / 2))
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert opens(out)
            nothing_opens(f"{folder}/work", out)
        subprocess.run(["rm", "-rf", out], check=True)


def test_two_writers_of_one_output(folder):
    config = write_config(f"{folder}/config.json")
    out = f"{folder}/out"
    slow = start("synthesize", config, out)
    while not any(".partial-" in name and os.listdir(f"{folder}/{name}") for name in os.listdir(folder)):
        time.sleep(0.001)
    slow.send_signal(signal.SIGSTOP)
    run("synthesize", config, out, "--seed", 1)
    before = read_tree(out)
    assert any(".partial-" in name for name in os.listdir(folder)), "the other writer's files are not touched"
    slow.send_signal(signal.SIGCONT)
    message = slow.communicate()[0]
    assert slow.returncode == 1 and message.startswith(f"error {EXISTS}: "), message
    assert read_tree(out) == before and sorted(os.listdir(folder)) == ["config.json", "out"]


def test_disk_full(folder):
    mount = f"{folder}/small"
    os.mkdir(mount)
    inside = f'mount -t tmpfs -o size=48m none {mount} && {{ "$@"; code=$?; ls -A {mount}; exit $code; }}'
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            if subprocess.run([*prefix, "sh", "-c", inside, "sh", "true"], capture_output=True).returncode == 0:
                break
        except FileNotFoundError:
            pass
    else:
        return "no small file system can be mounted here"

    def run_there(*arguments):
        command = [*prefix, "sh", "-c", inside, "sh", DRIVER, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and done.stdout.startswith(f"error {DISK_FULL}: "), done
        return done.stdout.splitlines()

    # Asked before: the figures are named.
    large = write_config(f"{folder}/large.json")
    message, *left = run_there("synthesize", large, f"{mount}/out")
    numbers = [int(word) for word in message.replace(",", " ").split() if word.isdigit()]
    assert max(numbers) > 90_000_000 and any(40 << 20 < number <= 48 << 20 for number in numbers), message
    assert left == []
    # Filled up by another while it writes.
    small = write_config(f"{folder}/small.json", num_hidden_layers=2, vocab_size=16000)
    for out in ("out", "out.safetensors"):
        _, *left = run_there("synthesize", small, f"{mount}/{out}", "--shard-size", 2_000_000, "--fill-disk",
                             f"{mount}/filler")
        assert left == ["filler"], left


def test_verify(folder):
    out = f"{folder}/out"
    run("upcycle", f"{MODELS}/tiny-wordnet-dense", out, "--shard-size", 3_000_000)
    files = run("verify", out)
    assert [file["name"] for file in files] == sorted(os.listdir(out))
    for file in files:
        content = open(f"{out}/{file['name']}", "rb").read()
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["size"] == len(content)
        assert file["n_nan"] == file["n_infinite"] == 0 and file["first_bad"] == ""
        holds = len(read_file(f"{out}/{file['name']}")[0]) if file["name"].endswith(".safetensors") else 0
        assert file["n_tensors"] == holds
    # Bad values at known places.
    name = [name for name in sorted(os.listdir(out)) if name.startswith("model-00002-of-")][0]
    path = f"{out}/{name}"
    with open(path, "r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        header.pop("__metadata__")
        keys = sorted(header, key=lambda key: header[key]["data_offsets"])
        for key, at, bits in ((keys[5], -2, 0x7FC0), (keys[3], 0, 0xFF80), (keys[4], 2, 0xFFFF), (keys[5], 0, 0x7F80)):
            first, last = header[key]["data_offsets"]
            file.seek(8 + length + (first if at >= 0 else last) + at)
            file.write(struct.pack("<H", bits))
    found = {file["name"]: file for file in run("verify", out)}
    assert [file for file in found.values() if file["first_bad"]] == [found[name]]
    assert (found[name]["n_nan"], found[name]["n_infinite"], found[name]["first_bad"]) == (2, 2, keys[3])
    run("upcycle", f"{MODELS}/tiny-wordnet-dense", f"{folder}/one.safetensors")
    single = run("verify", f"{folder}/one.safetensors")
    assert len(single) == 1 and single[0]["n_tensors"] > 100
    run("verify", f"{folder}/none", expect=NOT_FOUND)


if __name__ == "__main__":
    run_tests([value for name, value in list(globals().items()) if name.startswith("test_")])

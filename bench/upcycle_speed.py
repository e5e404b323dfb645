"""Speed and memory of the writers against `cp` of the same bytes, both with fsync.

    python3 bench/upcycle_speed.py DRIVER FOLDER [--gigabytes 4] [--repeat 3]

DRIVER is build/tests/convert/convert_driver, FOLDER lies on the disk to measure and has room for some four times the
size. Makes a dense model whose upcycling gives about that many bytes, and prints one JSON object: for each writer the
best of the repeats in bytes/s, the best of cp of the very files it wrote (measured in turns with it), their ratio, and
the peak of anonymous memory.
"""
import argparse
import json
import os
import shutil
import subprocess
import time

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 1536,
    "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "initializer_range": 0.02, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 32000, "bos_token_id": 0, "eos_token_id": 0
}
FFN_BYTES = 3 * 1536 * 8960 * 2


def driver(program, *arguments):
    """Its answer, with the anonymous memory seen from outside every 10 ms as a second witness."""
    child = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    peak = 0
    while child.poll() is None:
        try:
            with open(f"/proc/{child.pid}/status", encoding="ascii") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.01)
    answer = json.loads(child.stdout.read())
    answer["peak_anonymous"] = max(peak, answer["peak_anonymous"])
    return answer


def copy_with_sync(source, target):
    """Seconds of cp followed by fsync of every file and of the directory."""
    begin = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in [*(os.path.join(target, name) for name in os.listdir(target)), target]:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver")
    parser.add_argument("folder")
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folder = os.path.join(arguments.folder, "upcycle-speed")
    os.makedirs(folder)
    result = {}
    try:
        for name, copies in (("finermoe", 5), ("drop-upcycling", 8), ("synthesize", 1)):
            layers = max(1, round(arguments.gigabytes * 1e9 / (copies * FFN_BYTES)))
            config = f"{folder}/config.json"
            with open(config, "w", encoding="utf-8") as file:
                json.dump({**CONFIG, "num_hidden_layers": layers}, file)
            dense, out, copy = (f"{folder}/{part}" for part in ("dense", "out", "copy"))
            if name != "synthesize":
                driver(arguments.driver, "synthesize", config, dense)
            speeds, copies_speeds, peak = [], [], 0
            for _ in range(arguments.repeat):
                if name == "synthesize":
                    answer = driver(arguments.driver, "synthesize", config, out)
                else:
                    answer = driver(arguments.driver, "upcycle", dense, out, "--preset", name)
                peak = max(peak, answer["peak_anonymous"])
                speeds.append(answer["bytes"] / answer["seconds"])
                copies_speeds.append(answer["bytes"] / copy_with_sync(out, copy))
                shutil.rmtree(out)
                shutil.rmtree(copy)
            result[name] = {
                "bytes": answer["bytes"], "bytes_per_second": round(max(speeds)),
                "cp_bytes_per_second": round(max(copies_speeds)), "ratio": round(max(speeds) / max(copies_speeds), 3),
                "peak_anonymous_bytes": peak
            }
            shutil.rmtree(dense, ignore_errors=True)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

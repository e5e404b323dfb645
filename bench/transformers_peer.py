"""transformers, or the authors' Python code, on one of our model folders: prefill and decoding in tokens/s.

    python3 bench/transformers_peer.py MODEL [--code FOLDER] [--device cuda:0] [--prompt N] [--gen N] [--runs N]

MODEL is a folder that `finermoe synthesize` or `finermoe upcycle` has written in BF16. transformers computes a `qwen2`
model itself. For a `finer_moe` model --code names a folder with the authors' modelling code, such as one of their
checkpoints: a config.json whose "auto_map" names classes in Python files beside it. Of that folder, these are used and no
weights. Prints one JSON object. Needs torch and a transformers of the version that the code is for.
"""
import argparse
import glob
import json
import os
import shutil
import statistics
import tempfile
import time


def with_code(model, code, folder):
    """Fills a folder with the model's weights, as links, and a config for the code, which is copied."""
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(code, "config.json"), encoding="utf-8") as file:
        config["auto_map"] = json.load(file).get("auto_map")
    if not config["auto_map"]:
        raise SystemExit(f"{code}/config.json has no auto_map, which names the classes of the modelling code")
    for path in glob.glob(os.path.join(model, "*.safetensors*")):
        os.symlink(os.path.abspath(path), os.path.join(folder, os.path.basename(path)))
    for path in glob.glob(os.path.join(code, "*.py")):
        shutil.copy(path, folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


class Timer:
    def __init__(self, folder, device, has_code):
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.torch, self.device = torch, torch.device(device)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, torch_dtype=torch.bfloat16, trust_remote_code=has_code).to(self.device).eval()

    def seconds(self, n_prompt, n_new):
        """Of a greedy generation, from the prompt to its last token."""
        ids = self.torch.tensor([[i * 7919 % 1000 + 5 for i in range(n_prompt)]], device=self.device)
        begin = time.perf_counter()
        found = self.model.generate(ids, attention_mask=self.torch.ones_like(ids), do_sample=False, pad_token_id=0,
                                    min_new_tokens=n_new, max_new_tokens=n_new)
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)
        if found.shape[1] != n_prompt + n_new:
            raise SystemExit(f"expected {n_new} new tokens, found {found.shape[1] - n_prompt}")
        return time.perf_counter() - begin

    def rates(self, n_prompt, n_decoded, runs):
        prefill, decode = [], []
        for run in range(runs + 1):  # the first does not count
            first, all_tokens = self.seconds(n_prompt, 1), self.seconds(n_prompt, 1 + n_decoded)
            if run:
                prefill.append(n_prompt / first)
                decode.append(n_decoded / (all_tokens - first))
        return {f"prefill_{n_prompt}": statistics.median(prefill), "decode": statistics.median(decode)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--code", metavar="FOLDER", help="with the authors' modelling code, for a finer_moe model")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--threads", type=int, help="of torch on a CPU")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--runs", type=int, default=2)
    a = parser.parse_args()
    if a.threads:
        import torch

        torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as folder:
        if a.code:
            with_code(a.model, a.code, folder)
        timer = Timer(folder if a.code else a.model, a.device, bool(a.code))
        print(json.dumps(timer.rates(a.prompt, a.gen, a.runs)))


if __name__ == "__main__":
    main()

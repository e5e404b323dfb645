"""finermoe system."""

import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import unittest
from unittest import mock

from support import TRAINED, arguments, error, main, run, text, value


class System(unittest.TestCase):
    def test_fields(self):
        system = value("system", "--json")
        self.assertEqual(f"finermoe {system['version']}\n", text("--version"))
        self.assertRegex(system["compiler"], r"^(GCC|Clang) \d+\.\d+")
        self.assertTrue(system["build"])
        self.assertIn(os.uname().release, system["system"])
        processor, threads, memory = system["processor"], system["threads"], system["memory"]
        self.assertEqual(processor["isas"][0], "portable")
        self.assertIn(processor["isa"], processor["isas"])
        self.assertTrue(processor["kernels"].startswith(processor["isa"]))
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
        self.assertEqual("avx2" in processor["isas"], {"avx2", "fma", "f16c"} <= set(flags))
        self.assertEqual(threads["affinity"], len(os.sched_getaffinity(0)))
        quota = threads["quota"] if threads["quota"] is not None else float("inf")
        self.assertEqual(threads["default"], max(1, int(min(threads["affinity"], quota))))
        self.assertEqual(memory["page_size"], os.sysconf("SC_PAGE_SIZE"))
        self.assertEqual(memory["total"] // 1024,
                         int(pathlib.Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]))
        self.assertLessEqual(memory["available"], memory["total"])
        if memory["quota"] is not None:  # no limit is null, however a control group writes it
            self.assertLess(memory["quota"], 2**62)
        self.assertEqual(system["limits"]["open_files"], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        device, = system["devices"]
        self.assertEqual((device["name"], device["kind"], device["version"]), ("cpu", "cpu", processor["kernels"]))
        self.assertEqual(device["weights"], ["f32", "f16", "bf16", "q8", "q4"])
        self.assertEqual(device["kv_cache"], ["f32", "f16", "bf16", "q8"])
        self.assertIs(device["copies_weights"], False)
        self.assertLessEqual(device["memory_available"], device["memory"])
        self.assertNotIn("read_gb_per_second", system)
        # What it says is what is taken.
        bench = value("bench", TRAINED, "-p", 4, "-n", 1, "--runs", 1, "--json")
        self.assertEqual((bench["threads"], bench["isa"]), (threads["default"], processor["isa"]))
        self.assertLessEqual({"q8", "q4"}, set(bench["quantized_dtypes"]))

    def test_limits(self):
        def lower():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))

        result = subprocess.run(arguments("system"), preexec_fn=lower, capture_output=True, text=True, check=True)
        self.assertRegex(result.stdout, r"(?m)^threads +1 \(.*affinity: 1,")
        self.assertRegex(result.stdout, r"open files 99\n")
        self.assertEqual(result.stderr, "")

    def test_blas(self):
        self.assertIsNone(value("system", "--json")["blas"])
        library = os.environ["FINERMOE_TEST_BLAS_GOOD"]
        system = value("system", "--blas", library, "--json")
        is_used = system["processor"]["isas"] == ["portable"] and system["threads"]["default"] <= 4
        self.assertEqual(system["blas"], {"library": "OpenBLAS 0.0 of the tests MAX_THREADS=4", "used": is_used})
        self.assertRegex(text("system", "--blas", library), r"(?m)^BLAS +OpenBLAS 0\.0 of the tests")
        bench = value("bench", TRAINED, "-p", 4, "-n", 1, "--runs", 1, "--blas", library, "--json")
        self.assertEqual(bench["blas"], system["blas"]["library"] if is_used else None)
        self.assertIn("FINERMOE_ERROR_FILE_NOT_FOUND", error("system", "--blas", "/nonexistent/libopenblas.so", code=1))

    def test_devices(self):
        module = os.environ["FINERMOE_TEST_DEVICE_MODULE"]
        devices = value("system", "--device-module", module, "--json")["devices"]
        self.assertEqual([device["name"] for device in devices], ["cpu", "deferred"])
        self.assertIs(devices[1]["copies_weights"], True)
        self.assertRegex(text("system", "--device-module", module), r"(?m)^device +deferred: ")
        prompt = ("generate", TRAINED, "-p", "a word", "-n", 8, "--temp", 0)
        self.assertEqual(text(*prompt), text(*prompt, "--device-module", module, "--device", "deferred"))
        self.assertEqual(text(*prompt), text(*prompt, "--device-module", module, "--device", "deferred",
                                             "--expert-device", "cpu"))
        self.assertIn('no device "cuda:0"', error(*prompt, "--device", "cuda:0", code=1))

    def test_device_memory(self):
        device = ("--device-module", os.environ["FINERMOE_TEST_DEVICE_MODULE"], "--device", "deferred")
        whole = value("plan", TRAINED, *device, "--device-memory", "1TB", "--json")["device"]
        self.assertEqual((whole["layers"], whole["moe_layers"], whole["fits"]), (4, 4, True))
        half = value("plan", TRAINED, *device, "--device-memory", whole["total"] // 2, "--json")["device"]
        self.assertLessEqual(half["total"], half["memory"])
        self.assertLess(half["moe_layers"], 4)
        words = text("plan", TRAINED, *device, "--device-memory", whole["total"] // 2)
        self.assertRegex(words, r"(?m)^on deferred +[\d.]+ MB of [\d.]+ MB$")
        self.assertRegex(words, rf"(?m)^  with their experts +{half['moe_layers']} of 4$")
        self.assertIn("does not fit: the head and one layer",
                      text("plan", TRAINED, *device, "--device-memory", "1MB", code=3))
        self.assertIn("cpu uses the machine's", error("plan", TRAINED, "--device-memory", "1GB", code=1))

        prompt = ("generate", TRAINED, "-p", "a word", "-n", 8, "--temp", 0)
        for memory in whole["total"] * 9 // 10, whole["total"] // 2:
            self.assertEqual(text(*prompt), text(*prompt, *device, "--device-memory", memory))
        self.assertIn("FINERMOE_ERROR_DEVICE_MEMORY", error(*prompt, *device, "--device-memory", "1MB", code=1))

    def test_expert_cache(self):
        device = ("--device-module", os.environ["FINERMOE_TEST_DEVICE_MODULE"], "--device", "deferred")
        prompt = ("generate", TRAINED, "-p", "a word", "-n", 8, "--temp", 0)
        whole = value("plan", TRAINED, *device, "--device-memory", "1TB", "--json")["device"]
        for limit in (), ("--device-memory", whole["total"] * 9 // 10), ("--device-memory", whole["total"] // 2):
            self.assertEqual(text(*prompt), text(*prompt, *device, *limit, "--expert-cache", "1MB"))
        # An expert of 69,120 bytes, of which a token chooses 2 of 32 in 4 layers.
        memory = ("--device-memory", whole["total"] * 9 // 10)
        planned = value("plan", TRAINED, *device, *memory, "--expert-cache", "1MB", "--json")["device"]
        cache, n_fetched = planned["expert_cache"], 32 * (4 - planned["moe_layers"])
        self.assertLess(planned["moe_layers"], 4)
        self.assertLessEqual(planned["total"], planned["memory"])
        without = value("plan", TRAINED, *device, *memory, "--json")
        self.assertNotIn("expert_cache", without["device"])
        self.assertEqual(cache, {"bytes": 14 * 69120, "experts": 14,
                                 "copied_per_token": 2 * 69120 * (n_fetched - 14) // 32,
                                 "cpu_reads_without": without["bytes_per_token"] - without["device"]["bytes_per_token"]})
        self.assertRegex(text("plan", TRAINED, *device, *memory, "--expert-cache", "1MB"),
                         r"(?m)^  expert cache +968 kB, 14 experts\n  copied per token +\d+ kB if experts are chosen evenly"
                         r"\non the CPU\n  weights \(mapped\) .*\n  read per token +0 B\n  without the cache +\d+ kB$")
        all_there = ("plan", TRAINED, *device, "--device-memory", "1TB", "--expert-cache", "1MB")
        self.assertIsNone(value(*all_there, "--json")["device"]["expert_cache"])
        self.assertIn("not needed: all experts fit", text(*all_there))
        # Hits and misses.
        ran = value(*prompt, *device, *memory, "--expert-cache", "1MB", "--json")["expert_cache"]
        self.assertEqual((ran["bytes"], ran["experts"]), (cache["bytes"], cache["experts"]))
        self.assertGreater(ran["misses"], 0)
        self.assertNotIn("expert_cache", value(*prompt, "--json"))
        words = run(*prompt, *device, *memory, "--expert-cache", "1MB", "--stats")[1].decode()
        self.assertIn(f"; expert cache: 968 kB, 14 experts; {ran['hits']} hits, {ran['misses']} misses", words)
        bench = ("bench", TRAINED, *device, "-p", 4, "-n", 3, "--runs", 1, "--expert-cache", "200kB")
        self.assertEqual(value(*bench, "--json")["expert_cache"],
                         {"bytes": 2 * 69120, "experts": 2, "hits": 0, "misses": 3 * 4 * 2})
        self.assertRegex(text(*bench), r"(?m)^expert cache +138 kB, 2 experts; 0 hits, 24 misses$")
        for command in (*prompt, *device, *memory), ("plan", TRAINED, *device, *memory):
            self.assertIn("an expert cache of 1000 bytes is too small", error(*command, "--expert-cache", 1000, code=1))
        self.assertIn("is for a device with memory of its own", error("plan", TRAINED, "--expert-cache", "1MB", code=1))
        self.assertIn("an expert cache of 1000 bytes is too small",
                      error(*prompt, *device, "--expert-cache", 1000, code=1))
        self.assertIn("is for a device with memory of its own", error(*prompt, "--expert-cache", "1MB", code=1))

    def test_bench_generates(self):
        bench = ("bench", TRAINED, "-p", 4, "-n", 6, "--runs", 3)
        found = value(*bench, "--generate", "--json")["generate"]
        self.assertEqual(len(found["seconds"]), 3)
        self.assertAlmostEqual(found["tokens_per_second"], 6 / sorted(found["seconds"])[1])
        self.assertRegex(text(*bench, "--generate"), r"(?m)^generate +[\d.]+ tokens/s, greedy, after the first$")
        self.assertNotIn("generate", value(*bench, "--json"))

    def test_bandwidth(self):
        measured = value("system", "--bandwidth", "--threads", 1, "--json")
        self.assertGreater(measured["read_gb_per_second"], 0)
        self.assertEqual(measured["read_threads"], 1)


class FoundModule(unittest.TestCase):
    """libfinermoe_cuda.so beside the library that the command is run with."""

    PROMPT = ("generate", TRAINED, "-p", "a word", "-n", 3, "--temp", 0)

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        shutil.copy(os.environ["FINERMOE_TEST_LIBRARY"], self.folder / "libfinermoe.so.0")
        self.enterContext(mock.patch.dict(os.environ, {"LD_LIBRARY_PATH": str(self.folder)}))

    def put(self, variable):
        shutil.copy(os.environ[variable], self.folder / "libfinermoe_cuda.so")

    def names(self):
        return [device["name"] for device in value("system", "--json")["devices"]]

    def test_its_devices_are_there(self):
        self.put("FINERMOE_TEST_EMULATED_MODULE")
        self.assertEqual(self.names(), ["cpu", "cuda-emulated:0"])
        expected = text(*self.PROMPT)
        for name in ("cuda-emulated:0", "cuda-emulated:GPU-00000000-0000-0000-0000-000000000000", "cuda-emulated:GPU-0"):
            self.assertEqual(text(*self.PROMPT, "--device", name), expected)
        self.assertEqual(text(*self.PROMPT, "--expert-device", "cuda-emulated:0"), expected)
        for name in ("cuda-emulated:1", "cuda-emulated:GPU-", "cuda-emulated:GPU-1", "cuda-emulated:"):
            self.assertIn(f'no device "{name}"', error(*self.PROMPT, "--device", name, code=1))
        self.assertIn('2 are named: "cuda-emulated:0", "cuda-emulated:1"',
                      error(*self.PROMPT, "--device", "cuda-emulated:0,cuda-emulated:1", code=1))
        # A module that is named is the only one.
        named = value("system", "--device-module", os.environ["FINERMOE_TEST_DEVICE_MODULE"], "--json")["devices"]
        self.assertEqual([device["name"] for device in named], ["cpu", "deferred"])

    def test_it_is_opened_for_those_alone_who_ask(self):
        self.put("FINERMOE_TEST_EMULATED_MODULE")
        with mock.patch.dict(os.environ, {"LD_DEBUG": "files"}):
            opened = lambda *parts: b"libfinermoe_cuda.so" in run(*parts)[1]
            self.assertFalse(opened(*self.PROMPT))
            self.assertFalse(opened(*self.PROMPT, "--device", "cpu"))
            self.assertTrue(opened(*self.PROMPT, "--device", "cuda-emulated:0"))
            self.assertTrue(opened("system"))

    def test_one_that_cannot_be_used(self):
        self.assertIn("libfinermoe_cuda.so is not beside libfinermoe, nor in /",
                      error(*self.PROMPT, "--device", "cuda:0", code=1))
        (self.folder / "libfinermoe_cuda.so").write_text("not a library")
        self.assertEqual(self.names(), ["cpu"])
        self.assertIn("libfinermoe_cuda.so cannot be loaded", error(*self.PROMPT, "--device", "cuda:0", code=1))

    def test_nvidias(self):
        if "FINERMOE_TEST_CUDA_MODULE" not in os.environ:
            self.skipTest("libfinermoe_cuda was not built: there is no nvcc")
        self.put("FINERMOE_TEST_CUDA_MODULE")
        names = self.names()
        self.assertEqual(names[0], "cpu")
        planned = value("plan", TRAINED, "--device", "cuda:0", "--device-memory", "1GB", "--json")["device"]
        self.assertEqual((planned["layers"], planned["fits"]), (4, True))  # with or without a GPU
        if len(names) == 1:
            self.assertIn("NVIDIA driver", error(*self.PROMPT, "--device", "cuda:0", code=1))
        else:
            self.assertEqual(names[1], "cuda:0")


if __name__ == "__main__":
    main()

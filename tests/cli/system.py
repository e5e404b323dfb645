"""finermoe system."""

import os
import pathlib
import resource
import subprocess
import unittest

from support import TRAINED, arguments, error, main, text, value


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

    def test_limits(self):
        def lower():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))

        result = subprocess.run(arguments("system"), preexec_fn=lower, capture_output=True, text=True, check=True)
        self.assertRegex(result.stdout, r"(?m)^threads +1 \(.*affinity: 1,")
        self.assertRegex(result.stdout, r"open files 99\n")
        self.assertEqual(result.stderr, "")

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

    def test_bandwidth(self):
        measured = value("system", "--bandwidth", "--threads", 1, "--json")
        self.assertGreater(measured["read_gb_per_second"], 0)
        self.assertEqual(measured["read_threads"], 1)


if __name__ == "__main__":
    main()

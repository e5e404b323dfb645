"""The checks of this folder find what they look for: each is shown something wrong and something right."""

import sys
import unittest
from pathlib import Path

import contract
import documents
import function_lengths
import include_law
import readme_commands
import source_rules
import tree

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import summary


class IncludeLaw(unittest.TestCase):
    law, outside = include_law.read_law(
        "| room | may include | what |\n|---|---|---|\n| `base` | – | x |\n| `format` | base | x |\n"
        "| `model` | base, format | x |\n| `cpu` | base | x |\n| `api` | everything | x |\n"
        "| `tools/` | finermoe.h, base | x |\n| `examples/` | finermoe.h | x |\n")

    def check(self, name, content):
        return include_law.check(name, content, self.law, self.outside)

    def test_the_table_is_read(self):
        self.assertEqual(self.law, {"base": set(), "format": {"base"}, "model": {"base", "format"}, "cpu": {"base"},
                                    "api": {"base", "format", "model", "cpu"}})
        self.assertEqual(self.outside, {"tools/": {"base"}, "examples/": set()})

    def test_the_table_is_whole(self):
        rooms = ["base", "format", "model", "cpu", "api"]
        self.assertFalse(include_law.check_law(self.law, self.outside, rooms))
        self.assertTrue(include_law.check_law(self.law, self.outside, rooms + ["more"]))
        self.assertTrue(include_law.check_law(self.law, self.outside, rooms[:-1]))
        self.assertTrue(include_law.check_law({"a": {"b"}}, {}, ["a"]))
        self.assertTrue(include_law.check_law({"a": set()}, {"tools/": {"b"}}, ["a"]))
        self.assertTrue(include_law.check_law({"a": {"b"}, "b": {"c"}, "c": {"a"}}, {}, ["a", "b", "c"]))

    def test_upwards_is_refused(self):
        self.assertTrue(self.check("src/base/a.cc", '#include "format/config.h"\n'))
        self.assertTrue(self.check("src/format/a.h", '#  include "cpu/kernels.h"\n'))
        self.assertTrue(self.check("src/format/a.cc", '#include "api/handles.h"\n'))
        self.assertFalse(self.check("src/api/a.cc", '#include "cpu/kernels.h"\n#include "api/handles.h"\n'))

    def test_beside_src(self):
        self.assertTrue(self.check("tools/a.cc", '#include "format/config.h"\n'))
        self.assertTrue(self.check("tools/a.cc", '#include "../src/base/status.h"\n'))
        self.assertTrue(self.check("examples/a.c", '#include "base/status.h"\n'))
        self.assertTrue(self.check("examples/a.c", '#include "../src/base/status.h"\n'))
        self.assertFalse(self.check("tools/a.cc", '#include "base/status.h"\n'))
        self.assertFalse(self.check("tools/a.cc", '#include "finermoe.h"\n#include "progress_bar.h"\n'))

    def test_written_from_src(self):
        self.assertTrue(self.check("src/base/a.cc", '#include "status.h"\n'))
        self.assertFalse(self.check("src/model/a.cc", '#include "format/config.h"\n#include <vector>\n'))

    def test_headers_include_no_other_library(self):
        for target in ("<nlohmann/json.hpp>", "<pcre2.h>", "<openssl/evp.h>", '"base/json_sax.h"'):
            self.assertTrue(self.check("src/format/a.h", f"#include {target}\n"), target)
            self.assertFalse(self.check("src/format/a.cc", f"#include {target}\n"), target)
        self.assertFalse(self.check("src/base/json_sax.h", "#include <nlohmann/json.hpp>\n"))
        self.assertFalse(self.check("src/base/a.h", "#include <vector>\n#include <dirent.h>\n#include <sys/stat.h>\n"))

    def test_cpu_is_not_named(self):
        self.assertTrue(self.check("src/model/a.cc", "return cpu::backend();\n"))

    def test_built_with(self):
        build = "x = static_library('x', 'a.cc',\n  dependencies: [base, %s,\n    pcre2], pic: true)\n"
        self.assertFalse(include_law.check_build("src/model/meson.build", build % "format", self.law, self.outside))
        self.assertTrue(include_law.check_build("src/model/meson.build", build % "cpu", self.law, self.outside))
        self.assertTrue(include_law.check_build("src/base/meson.build", "f(dependencies: format)", self.law,
                                                 self.outside))
        self.assertTrue(include_law.check_build("tools/meson.build", build % "format", self.law, self.outside))
        self.assertFalse(include_law.check_build("tools/meson.build", build % "finermoe_dep", self.law, self.outside))


LIMITS = {"a source file": 500, "a function": 80}


class SourceRules(unittest.TestCase):
    def test_calls(self):
        for line in ('printf("x");', "std::cout << 1;", "std::abort();", "exit(1);", 'getenv("X");', "assert(x);"):
            self.assertTrue(source_rules.check("src/a/a.cc", line + "\n", LIMITS), line)
        for line in ("snprintf(a, 1, b);", "static_assert(sizeof(int) == 4);", '// printf("x")', 'cat("abort()");'):
            self.assertFalse(source_rules.check("src/a/a.cc", line + "\n", LIMITS), line)
        self.assertFalse(source_rules.check("tools/a.cc", 'printf("x");\n', LIMITS))

    def test_addresses_of_a_devices_memory(self):
        self.assertTrue(source_rules.check("src/model/a.cc", "float* x = a.x.address();\n", LIMITS))
        self.assertFalse(source_rules.check("src/model/a.cc", "// x.address() is the device's\n", LIMITS))
        self.assertFalse(source_rules.check("src/cpu/a.cc", "float* x = a.x.address();\n", LIMITS))

    def test_sizes(self):
        self.assertTrue(source_rules.check("src/a/a.cc", "\n" * 501, LIMITS))
        self.assertFalse(source_rules.check("src/a/a.cc", "\n" * 500, LIMITS))
        self.assertFalse(source_rules.check("src/a/a.cc", "// Generated by a script\n" + "\n" * 501, LIMITS))
        self.assertFalse(source_rules.check("src/a/a.cc", "\n" * 510, {**LIMITS, "src/a/a.cc": 510}))
        self.assertTrue(source_rules.check("src/a/a.cc", "\n" * 511, {**LIMITS, "src/a/a.cc": 510}))

    def test_limits_are_read(self):
        table = "\n| what | lines at most |\n|---|---|\n| a function, all of it | 80 |\n| `a/b.cc:c` | 90 |\n\nText.\n"
        self.assertEqual(tree.limits(table), {"a function": 80, "a/b.cc:c": 90})
        with self.assertRaises(AssertionError):
            tree.limits("no table")

    def test_an_exception_has_to_be_needed(self):
        lines_of = {"a/long.cc": 505, "a/short.cc": 100}.get
        self.assertFalse(source_rules.check_exceptions({**LIMITS, "a/long.cc": 510, "a/short.cc:f": 90}, lines_of))
        self.assertTrue(source_rules.check_exceptions({**LIMITS, "a/short.cc": 510}, lines_of))
        self.assertTrue(source_rules.check_exceptions({**LIMITS, "a/gone.cc": 510}, lines_of))
        self.assertTrue(source_rules.check_exceptions({**LIMITS, "a/gone.cc:f": 90}, lines_of))

    def test_leftovers(self):
        self.assertTrue(source_rules.check_leftovers("a.md", "TODO: more"))
        self.assertTrue(source_rules.check_leftovers("a.md", "see /home/someone/file"))
        self.assertFalse(source_rules.check_leftovers("a.md", "$root/tmp/x and /proc/self/status"))


class FunctionLengths(unittest.TestCase):
    def findings(self, content, name="src/a/a.cc", **more):
        return function_lengths.check(name, content, {**LIMITS, **more})[0]

    def need_a_grammar(self):
        if not function_lengths.tree_sitter:
            self.skipTest("tree-sitter is not installed")

    def body(self, lines):
        return "{\n" + "  g();\n" * (lines - 2) + "}\n"

    def test_one_line(self):
        self.need_a_grammar()
        self.assertTrue(self.findings("void f(int x) " + self.body(81)))
        self.assertFalse(self.findings("void f(int x) " + self.body(80) + "void g() " + self.body(80)))

    def test_signatures_of_many_lines_and_what_follows_them(self):
        self.need_a_grammar()
        for signature in ("template <typename T>\nStatus f(int x,\n         const T& y)\n    noexcept ",
                          "C::C(int x,\n     int y)\n    : x_(x),\n      y_{y} ",
                          "template <class T, class Create>\nT create(Create&& call,\n         int* code = nullptr) ",
                          "TEST(Suite,\n     Name) ",
                          "auto f(int x,\n       int y) -> Result<std::vector<std::vector<int>>> ",
                          "const auto f = [](int x,\n                  int y) "):
            end = ";\n" if "[]" in signature else ""
            planted = signature + self.body(100) + end
            self.assertTrue(self.findings(planted), signature)
            after = "int h(int x,\n      int y) " + self.body(100)
            self.assertIn(" h has 101 lines, 80 at most", "\n".join(self.findings(planted + after)), signature)
            self.assertFalse(self.findings(signature + self.body(20) + end + "\n" * 100), signature)

    def test_inside_classes_and_namespaces(self):
        self.need_a_grammar()
        self.assertTrue(self.findings("namespace a {\nclass B {\n  int f(int x,\n        int y) " + self.body(90) +
                                      "};\n}\n"))
        self.assertFalse(self.findings("namespace a {\nclass B {\n" + "  int f() { return 1; }\n" * 90 + "};\n}\n"))

    def test_the_projects_macros_do_not_blind_it(self):
        self.need_a_grammar()
        line = "  FM_ASSIGN(const std::map<int, std::vector<int>> read, file.read(\"name\", size));\n"
        self.assertTrue(self.findings("Status f(int x,\n         int y) {\n" + line * 90 + "}\n"))
        self.assertTrue(self.findings("FINERMOE_API int32_t f(int x) " + self.body(90)))

    def test_what_cannot_be_read_is_told(self):
        self.need_a_grammar()
        self.assertTrue(self.findings("DEFINE_A_FUNCTION(f)\n\nBEGIN " + self.body(90)))
        self.assertTrue(self.findings("int f(int x {\n" + "  g();\n" * 90 + "\n"))

    def test_c(self):
        self.need_a_grammar()
        self.assertTrue(self.findings("static int f(char *x,\n             int y)\n" + self.body(90), "examples/a.c"))

    def test_python(self):
        function = "def f(x,\n      y):\n" + "    g()\n" * 90
        self.assertTrue(self.findings(function, "tests/a.py"))
        self.assertTrue(self.findings("#!/usr/bin/env python3\n" + function, "scripts/a"))
        self.assertFalse(self.findings("def f(x,\n      y):\n" + "    g()\n" * 70 + "g()\n" * 90, "tests/a.py"))

    def test_an_exception_cannot_grow(self):
        function = "def f(x):\n" + "    g()\n" * 89
        self.assertFalse(self.findings(function, "tests/a.py", **{"tests/a.py:f": 90}))
        self.assertTrue(self.findings(function + "    g()\n", "tests/a.py", **{"tests/a.py:f": 90}))
        self.assertTrue(self.findings(function, "tests/b.py", **{"tests/a.py:f": 90}))


class Contract(unittest.TestCase):
    header = "  FINERMOE_OK = 0,\n  FINERMOE_ERROR_BUSY = -3,\nFINERMOE_API const char* finermoe_version(void);\n"

    def test_errors(self):
        right = "| `FINERMOE_OK` | 0 | x |\n| `FINERMOE_ERROR_BUSY` | -3 | x |\n"
        self.assertFalse(contract.check_errors(self.header, right))
        self.assertTrue(contract.check_errors(self.header, right.replace("-3", "-4")))
        self.assertTrue(contract.check_errors(self.header, right.splitlines()[0]))

    def test_symbols(self):
        self.assertFalse(contract.check_symbols(self.header, "finermoe_version\n"))
        self.assertTrue(contract.check_symbols(self.header, ""))
        self.assertTrue(contract.check_symbols(self.header, "finermoe_version\nfinermoe_more\n"))

    def test_version(self):
        self.assertFalse(contract.check_version("version: '1.2.3'", "## [1.2.3] - unreleased\n"))
        self.assertTrue(contract.check_version("version: '1.2.3'", "## [1.2.2]\n"))


class Documents(unittest.TestCase):
    def test_links(self):
        read = {"docs/a.md": "# One two\n"}.get
        check = lambda content: documents.check_links("docs/b.md", content, lambda n: n == "docs/a.md", read)
        self.assertFalse(check("[x](a.md) [y](a.md#one-two) [z](https://example.org)"))
        self.assertTrue(check("[x](c.md)"))
        self.assertTrue(check("[x](a.md#three)"))

    def test_index(self):
        self.assertFalse(documents.check_index("[a](a.md)", ["README.md", "a.md"]))
        self.assertTrue(documents.check_index("[a](a.md)", ["a.md", "b.md"]))

    def test_citations(self):
        page = "# A\n## 1. One\n1. **First.** x\n2. **Second** y\n## 2. Two\n"
        exists, read = {"docs/a.md"}.__contains__, {"docs/a.md": page}.get
        check = lambda content: documents.check_citations("src/a.h", content, exists, read)
        self.assertFalse(check("// see docs/a.md (docs/a.md, sections 1 and 2; docs/a.md, steps 1 to 2)"))
        self.assertTrue(check("// docs/b.md"))
        self.assertTrue(check("// docs/a.md, section 3"))
        self.assertTrue(check("// docs/a.md, sections 1 and 3"))
        self.assertTrue(check("// docs/a.md,\n// steps 1 to 3"))

    def test_c_example(self):
        readme = "```c\nint main(void) {\n  return 0;\n}\n```\n"
        self.assertFalse(documents.check_examples(readme, {"c": "/* x */\nint main(void) {\n\n    return 0;\n}\n"}))
        self.assertTrue(documents.check_examples(readme, {"c": "int main(void) {\n  return 1;\n}\n"}))
        self.assertTrue(documents.check_examples("none", {"c": ""}))

    def test_commands(self):
        both = "bash scripts/demo\nbash scripts/test\n"
        self.assertFalse(documents.check_commands(both, lambda name: True))
        self.assertTrue(documents.check_commands(both, lambda name: name != "scripts/test"))
        self.assertTrue(documents.check_commands("bash scripts/demo", lambda name: True))


class ReadmeCommands(unittest.TestCase):
    def test_commands(self):
        found = readme_commands.commands("```console\n$ a b\nx\ny\n$ c\n```\n")
        self.assertEqual(found, [("a b", "x\ny\n"), ("c", "")])

    def test_same(self):
        self.assertTrue(readme_commands.same("a 1.50001 b\n", "a 1.50002 b\n"))
        self.assertFalse(readme_commands.same("a 1.5 b\n", "a 1.6 b\n"))
        self.assertFalse(readme_commands.same("32,320\n", "32,321\n"))


class ClosingLine(unittest.TestCase):
    def closing(self, **test):
        one = summary.Summary()
        one.add({"name": "t", "stdout": "", **test})
        return one.text()

    def test_programs(self):
        self.assertEqual(self.closing(result="OK"), "1 passed, 0 failed, 0 skipped")
        self.assertEqual(self.closing(result="SKIP", stdout="no swig here\n"),
                         "skipped  t: no swig here\n0 passed, 0 failed, 1 skipped")
        self.assertEqual(self.closing(result="OK", stdout="a\nskipped: its window: no display\nb\n"),
                         "skipped  t: its window: no display\n1 passed, 0 failed, 1 skipped")
        for result in ("FAIL", "TIMEOUT", "ERROR", "INTERRUPT"):
            self.assertIn("0 passed, 1 failed, 0 skipped", self.closing(result=result))

    def test_googletest_counts_cases(self):
        output = ("[ RUN      ] A.x\n[       OK ] A.x (0 ms)\n[ RUN      ] A.y\na.cc:3: Skipped\nno AVX\n\n"
                  "[  SKIPPED ] A.y (0 ms)\n[ RUN      ] B.z/1\n[  FAILED  ] B.z/1, where GetParam() = 1 (2 ms)\n"
                  "[==========] 3 tests from 2 test suites ran. (2 ms total)\n[  PASSED  ] 1 test.\n"
                  "[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] A.y\n[  FAILED  ] 1 test, listed below:\n")
        self.assertEqual(self.closing(result="FAIL", stdout=output),
                         "skipped  t: A.y: no AVX\nFAILED   t: B.z/1\n1 passed, 1 failed, 1 skipped")

    def test_a_crash_after_the_cases_counts(self):
        output = "[==========] 2 tests from 1 test suite ran. (0 ms total)\n[  PASSED  ] 2 tests.\n"
        self.assertIn("2 passed, 1 failed, 0 skipped", self.closing(result="ERROR", stdout=output))


if __name__ == "__main__":
    unittest.main()

"""The binding for Java: builds the jar, and runs its tests, the conformance suite, the examples and the chat window."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import interface

from support import BINDINGS, MODEL, SOURCE, Missing, check_table, main, need, offer_bench, run, work_folder

JAVA = BINDINGS / "java"
MODELS = SOURCE / "examples/models"


def test(library, compiler):
    work = work_folder("java")
    for tool in ("swig", "javac", "mvn"):
        need(tool)
    home = pathlib.Path(shutil.which("javac")).resolve().parents[1]
    if not (home / "include/jni.h").exists():
        raise Missing(f"jni.h ({home}/include)")
    check_everything_is_used()
    target = work / "target"
    build(target, library, compiler, home)
    check_newer_java(target, home)
    check_no_complaints_of_jni(target)
    jar = next(path for path in target.glob("finermoe-*.jar") if re.fullmatch(r"finermoe-[\d.]+\.jar", path.name))
    for kind in ("sources", "javadoc"):
        assert jar.with_name(f"{jar.stem}-{kind}.jar").exists(), f"no jar of the {kind}"

    check_conformance(target, work)
    java = [home / "bin/java", "-Xshare:auto", f"-Dfinermoe.cache={work / 'cache'}"]
    classes = work / "examples"
    sources = [*(JAVA / "examples").glob("*.java"), *(JAVA / "src/test/window").glob("*.java"),
               *(JAVA / "bench").glob("*.java")]
    run(home / "bin/javac", "-Xlint:all", "-Werror", "-cp", jar, "-d", classes, *sources)
    java += ["-cp", f"{jar}:{classes}"]
    check_examples(java, work)
    check_bench(java)
    check_window(java, work)


def check_everything_is_used():
    """Each function of the header is called by the upper layer, and has a name there."""
    upper = "\n".join(path.read_text(encoding="utf-8") for path in (JAVA / "src/main/java/finermoe").glob("*.java"))
    called = set(re.findall(r"\bNative(?:\.|JNI::)(\w+)", upper))
    header = interface.Header()
    camel = lambda name: re.sub(r"_(\w)", lambda match: match[1].upper(), name.removeprefix("finermoe_"))
    missing = [name for name in header.functions
               if camel(name) not in called and not name.startswith("finermoe_error_")]  # those become an exception
    assert not missing, f"the upper layer uses no {sorted(missing)}"
    names = json.loads((JAVA / "names.json").read_text(encoding="utf-8"))
    assert names.keys() == header.functions, f"names.json: {sorted(names.keys() ^ header.functions)}"


def build(target, library, compiler, home):
    """Everything that Maven does, without the network where that is not needed."""
    command = ["mvn", "-B", "-q", "-f", JAVA / "pom.xml", "verify", f"-Dlibfinermoe.folder={library}",
               f"-Dfinermoe.target={target}"]
    env = {"CC": " ".join(compiler), "JAVA_HOME": home}
    shutil.rmtree(target / "surefire-reports", ignore_errors=True)  # those of an earlier run
    offline = maven([*command, "-o"], env)
    if offline.returncode != 0 and "offline mode" in offline.stdout:
        online = maven(command, env)
        if online.returncode != 0 and re.search(r"Could not (transfer|resolve|find)|Unknown host", online.stdout):
            raise Missing(f"what Maven needs: {first_error(online.stdout)}")
        offline = online
    assert offline.returncode == 0, offline.stdout


def check_newer_java(target, home):
    """Java 21 brought virtual threads: where there is one beside the Java that builds, these tests run on it too."""
    for release in sorted(pathlib.Path("/usr/lib/jvm").glob("*/release")):
        version = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(encoding="utf-8"), re.M)
        if version and int(version[1]) >= 21 and release.parent.resolve() != home:
            command = ["mvn", "-B", "-q", "-o", "-f", JAVA / "pom.xml", "surefire:test", "-Dtest=ThreadsTest,StopTest",
                       f"-Dfinermoe.target={target}", f"-Djvm={release.parent / 'bin/java'}"]
            done = maven(command, {})
            assert done.returncode == 0, done.stdout
            return
    print("skipped: virtual threads on a second Java: none from 21 on is in /usr/lib/jvm")


def maven(command, env):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", env={**os.environ, **{name: str(value) for name, value in env.items()}})


def first_error(text):
    return next((line for line in text.splitlines() if "[ERROR]" in line), text)[:300]


def check_no_complaints_of_jni(target):
    """-Xcheck:jni writes to the output of a test's process, which Maven keeps in files of its own."""
    reports = target / "surefire-reports"
    found = [path.read_text(encoding="utf-8", errors="replace") for path in reports.glob("*.dumpstream")]
    assert not found, "\n".join(found)
    for path in sorted(reports.glob("TEST-*.xml")):
        text = path.read_text(encoding="utf-8")
        for name, why in re.findall(r'<testcase name="([^"]*)"[^>]*>\s*<skipped message="([^"]*)"', text):
            print(f"skipped: {name}: {why}")


def check_conformance(target, work):
    shutil.copy(target / "conformance.txt", work / "conformance.txt")
    print((work / "conformance.txt").read_text(encoding="utf-8"), end="")
    check_table(work / "conformance.txt")


def check_examples(java, work):
    """Each program of examples/ does what it says, and says how it is used."""
    for path in (JAVA / "examples").glob("*.java"):
        assert run(*java, path.stem, "--help").startswith(f"usage: {path.stem} "), path
        wrong = subprocess.run([str(word) for word in (*java, path.stem)], capture_output=True, check=False)
        assert wrong.returncode == 2, path
    definition = expected_definition()
    assert run(*java, "Define", MODEL, "compass") == "Navigational instrument for finding directions.\n"
    assert run(*java, "Generate", MODEL, "A ship", 6) == "A ship with a tap.\n"
    assert run(*java, "ChatLoop", MODEL, input='Define the noun "lighthouse".\n') == f"> {definition}\n> "
    (work / "prompts.txt").write_text("A ship\nA poem\n", encoding="utf-8")
    lines = run(*java, "BatchFile", MODEL, work / "prompts.txt", 12).splitlines()
    assert sorted(lines) == ["A poem on a surface.", "A ship with a tap."], lines
    routes = run(*java, "Routes", MODEL, "A ship at sea")
    assert '" sea"' in routes and "balance loss" in routes and "of 32" in routes, routes
    shutil.rmtree(work / "upcycled", ignore_errors=True)
    run(*java, "Upcycle", MODELS / "tiny-wordnet-dense", work / "upcycled")
    assert run(*java, "Tour", work / "upcycled").count("logits") == 1
    tour = run(*java, "Tour", MODEL)
    assert " or city in southern Russia.\n" in tour and "2 rows of 4096 logits\n" in tour, tour
    missing = subprocess.run([str(word) for word in (*java, "Tour", work / "none")], capture_output=True, check=False,
                             encoding="utf-8")
    assert missing.returncode == 1 and missing.stderr.startswith("FILE_NOT_FOUND: "), missing


def expected_definition():
    with open(MODEL / "expected.json", encoding="utf-8") as file:
        return json.load(file)["prompts"][0]["greedy_text"]


def check_bench(java):
    """The program for bench/bindings.py, and how it is started."""
    command = [str(word) for word in (*java, "Bench")]
    offer_bench("java", command, {})
    figures = json.loads(run(*command, MODEL, 16, 2))
    assert all(len(figures[name]) == 2 and min(figures[name]) > 0
               for name in ("seconds_per_token", "seconds_per_logits_row")), figures


def check_window(java, work):
    """A process with AWT at work; the window stays responsive while answers come, and can be closed meanwhile."""
    if shutil.which("xvfb-run") is None:
        print("skipped: the chat window: xvfb-run is not here")
        return
    lines = run("xvfb-run", "-a", *java, "ChatWindowDriver", MODEL, work / "chat-window.png", timeout=120).splitlines()
    assert f"Model: {expected_definition()}" in lines and lines[-1] == "closed", lines
    pause = int(re.search(r"longest pause (\d+) ms", lines[-2])[1])
    assert pause < 1500, f"the window has waited for {pause} ms"
    assert (work / "chat-window.png").read_bytes().startswith(b"\x89PNG")


if __name__ == "__main__":
    main(test)

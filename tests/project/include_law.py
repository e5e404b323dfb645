"""Who may include whom: the table of src/README.md, over every #include of the tree and every room's meson.build."""

import re

import tree

# What a header may take from elsewhere: the C++ standard library, the system's and the compiler's own. Other libraries
# stand in sources, so that who includes a header of ours needs none of them; the parser of JSON is made of templates.
IN_HEADERS = re.compile(r"[a-z_0-9]+|dirent\.h|immintrin\.h|sys/\w+\.h")
PARSER = "base/json_sax.h"
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def read_law(document):
    """({room: the rooms that it may include besides itself}, {folder beside src that sees finermoe.h: the rooms too})."""
    law, outside = {}, {}
    for rooms, may_include, *_ in tree.table(document, "room"):
        names = re.findall(r"`([^`]+)`", rooms)
        first, *others = may_include.split(", ")
        if first == "finermoe.h":
            outside.update({name: set(others) for name in names})
        else:
            law.update({name: may_include if may_include == "everything" else set(re.findall(r"\w+", may_include))
                        for name in names})
    return {room: set(law) - {room} if may == "everything" else may for room, may in law.items()}, outside


def check_law(law, outside, folders):
    """The table names each room once, every folder has a row, and no room stands below itself."""
    findings = [f"src/README.md: {room} has no place in the include law" for room in folders if room not in law]
    findings += [f"src/README.md: the room {room} does not exist" for room in law if room not in folders]
    findings += [f"src/README.md: {room} may include {name}, which is no room" for room in [*law, *outside]
                 for name in sorted({**law, **outside}[room]) if name not in law]
    below = lambda room: law.get(room, set())
    for room in law:
        reached, seen = list(below(room)), set()
        while reached:
            name = reached.pop()
            if name not in seen:
                seen.add(name)
                reached += below(name)
        if room in seen:
            findings.append(f"src/README.md: {room} stands below itself")
    return findings


def check(name, content, law, outside):
    """Findings in one file."""
    findings = []
    parts = name.split("/")
    room = parts[1] if parts[0] == "src" and len(parts) > 2 and parts[1] in law else None
    beside = next((folder for folder in outside if name.startswith(folder)), None)
    for bracket, target in INCLUDE.findall(content):
        first = target.split("/")[0] if "/" in target else None
        if room is not None:
            if first in law and first != room and first not in law[room]:
                findings.append(f"{name}: {room} must not include {target}")
            if bracket == '"' and first not in law and target != "finermoe.h":
                findings.append(f'{name}: "{target}" is not written from src')
            is_foreign = bracket == "<" and not IN_HEADERS.fullmatch(target) or target == PARSER
            if name.endswith(".h") and name != f"src/{PARSER}" and is_foreign:
                findings.append(f"{name}: a header must not include {target}")
        elif beside is not None and (".." in target or first in set(law) - outside[beside]):
            findings.append(f"{name}: {' and '.join(['finermoe.h', *outside[beside]])} may be included, not {target}")
    if room in ("placement", "model", "runtime") and re.search(r"\bcpu[/:_.]", content):
        findings.append(f"{name}: {room} names cpu")
    return findings


def check_build(name, content, law, outside):
    """A room, and a folder beside src, is built with what it may include."""
    room = name.split("/")[-2]
    may_include = {**law, **{folder.rstrip("/"): rooms for folder, rooms in outside.items()}}[room]
    named = {word for listed in re.findall(r"dependencies: *(\[[^\]]*\]|[\w.]+)", content)
             for word in re.findall(r"\w+", listed)}
    return [f"{name}: {room} must not be built with {other}" for other in sorted(named & set(law) - may_include - {room})]


if __name__ == "__main__":
    law, outside = read_law(tree.text("src/README.md"))
    sources = tree.files(under=("src/",))
    findings = check_law(law, outside, sorted({name.split("/")[1] for name in sources if name.count("/") > 1}))
    suffixes = (".h", ".cc", ".c", ".inc", ".i", ".cpp", ".hpp", ".cu", ".cuh")
    names = [n for n in tree.files(*suffixes) if n.startswith(("src/", *outside))]
    for name in names:
        findings += check(name, tree.text(name), law, outside)
    folders = (*(f"src/{room}/" for room in law), *outside)
    builds = [name for name in tree.files("meson.build") if name[:-len("meson.build")] in folders]
    for name in builds:
        findings += check_build(name, tree.text(name), law, outside)
    tree.finish(findings, len(names) + len(builds))

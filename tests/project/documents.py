"""The Markdown files: links lead somewhere, and so do citations in the source; the README's blocks of code are excerpts
of programs that the tests run, its commands exist."""

import re
import os.path

import tree

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CITATION = re.compile(r"\b(docs/[\w-]+\.md)(?:,\s+(?://\s*)?(section|step)s? (\d+(?:(?:, | to | and )\d+)*))?")
EXAMPLES = {"c": "examples/generate.c", "python": "bindings/python/examples/define.py",
            "java": "bindings/java/examples/Define.java", "go": "bindings/go/examples/define/main.go",
            "rust": "bindings/rust/finermoe/examples/define.rs"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def anchors(content):
    """The anchors of a document's headings, as the hosts of Markdown make them."""
    content = BLOCK.sub("", content)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", content, re.M)}


def check_links(name, content, exists, read):
    findings = []
    for match in LINK.finditer(BLOCK.sub("", content)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
        if not exists(path):
            findings.append(f"{name}: {target} leads nowhere")
        elif anchor and path.endswith(".md") and anchor not in anchors(read(path)):
            findings.append(f"{name}: {target}: no such heading")
    return findings


def check_citations(name, content, exists, read):
    """Comments cite a page by its path, and its sections and steps by their numbers: `docs/a-page.md, section 3`."""
    findings = []
    for path, kind, numbers in CITATION.findall(content):
        if not exists(path):
            findings.append(f"{name}: {path} is cited and does not exist")
            continue
        there = r"^## (\d+)\. " if kind == "section" else r"^(\d+)\. \*\*"
        there = set(re.findall(there, read(path), re.M)) if kind else set()
        findings += [f"{name}: {path} has no {kind} {number}" for number in re.findall(r"\d+", numbers)
                     if number not in there]
    return findings


def check_index(index, names):
    """Every page of docs/ can be reached from its index."""
    linked = {match[1] for match in LINK.finditer(index)}
    return [f"docs/README.md: {name} is not linked" for name in names if name not in linked | {"README.md"}]


def check_examples(readme, sources):
    """Every line of the README's blocks in a language stands in its example, in the same order without a gap."""
    findings = []
    for language, source in sources.items():
        blocks = [body for name, body in BLOCK.findall(readme) if name == language]
        if not blocks:
            findings.append(f"README.md: no example in {language}")
        lines = [line.strip() for line in source.splitlines() if line.strip()]
        for body in blocks:
            wanted = [line.strip() for line in body.splitlines() if line.strip()]
            if not any(lines[i:i + len(wanted)] == wanted for i in range(len(lines))):
                findings.append(f"README.md: this is not an excerpt of its example: {wanted[0]}")
    return findings


def check_commands(readme, exists):
    """`bash scripts/demo` and the like: the script is there."""
    names = set(re.findall(r"bash ([\w./-]+)", readme))
    findings = [f"README.md: {name} does not exist" for name in sorted(names) if not exists(name)]
    return findings + [f"README.md: {name} is not mentioned" for name in ("scripts/demo", "scripts/test")
                       if name not in names]


if __name__ == "__main__":
    exists = lambda name: (tree.ROOT / name).exists()
    documents = tree.files(".md")
    findings = []
    for name in documents:
        findings += check_links(name, tree.text(name), exists, tree.text)
    sources = tree.files(".h", ".cc", ".c", ".inc", ".py", ".build")
    for name in sources:
        if not name.startswith("tests/project/"):  # which spells out what it looks for
            findings += check_citations(name, tree.text(name), exists, tree.text)
    pages = [name.removeprefix("docs/") for name in documents if name.startswith("docs/")]
    findings += check_index(tree.text("docs/README.md"), pages)
    readme = tree.text("README.md")
    findings += check_examples(readme, {language: tree.text(path) for language, path in EXAMPLES.items()})
    findings += check_commands(readme, exists)
    tree.finish(findings, len(documents) + len(sources))

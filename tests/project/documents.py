"""The Markdown files: links lead somewhere, and so do citations in the source; the README's C example is the one that
is compiled, its commands exist."""

import re
import os.path

import tree

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CITATION = re.compile(r"\b(docs/[\w-]+\.md)(?:,\s+(?://\s*)?(section|step)s? (\d+(?:(?:, | to | and )\d+)*))?")
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


def check_c_example(readme, source):
    """Every line of the README's C block stands in the example, in the same order without a gap."""
    blocks = [body for language, body in BLOCK.findall(readme) if language == "c"]
    if not blocks:
        return ["README.md: no C example"]
    squeeze = lambda body: [" ".join(line.split()) for line in body.splitlines() if line.strip()]
    program = "\n".join(squeeze(source))
    return ["README.md: the C example is not what examples/generate.c does" for body in blocks
            if "\n".join(squeeze(body)) not in program]


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
    findings += check_c_example(readme, tree.text("examples/generate.c")) + check_commands(readme, exists)
    tree.finish(findings, len(documents) + len(sources))

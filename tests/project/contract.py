"""The contract is told the same everywhere: error codes in docs/errors.md, functions in the symbol list, the version in
the changelog."""

import re

import tree


def error_codes(header):
    """{name: value}"""
    return {name: int(value) for name, value in re.findall(r"^\s*(FINERMOE_(?:OK|ERROR_\w+)) = (-?\d+)", header, re.M)}


def functions(header):
    return set(re.findall(r"^FINERMOE_API [\w\s*]*?\b(finermoe_\w+)\(", header, re.M))


def check_errors(header, document):
    codes = error_codes(header)
    told = {name: int(value) for name, value in re.findall(r"^\| `(FINERMOE_\w+)` \| (-?\d+) \|", document, re.M)}
    findings = [f"docs/errors.md: {name} ({codes[name]}) is missing" for name in codes if name not in told]
    findings += [f"docs/errors.md: {name} is not in finermoe.h" for name in told if name not in codes]
    findings += [f"docs/errors.md: {name} is {codes[name]}, not {told[name]}" for name in codes
                 if name in told and told[name] != codes[name]]
    return findings


def check_symbols(header, listed):
    exported = {line.split("#")[0].strip() for line in listed.splitlines()} - {""}
    declared = functions(header)
    return ([f"src/api/symbols.txt: {name} is declared in finermoe.h and not listed" for name in declared - exported] +
            [f"src/api/symbols.txt: {name} is listed and not declared in finermoe.h" for name in exported - declared])


def check_version(build, changelog):
    version = re.search(r"version: '([^']+)'", build)[1]
    return [] if re.search(rf"^## \[{re.escape(version)}\]", changelog, re.M) else [
        f"CHANGELOG.md: no section for version {version}"]


if __name__ == "__main__":
    header = tree.text("include/finermoe.h")
    findings = check_errors(header, tree.text("docs/errors.md"))
    findings += check_symbols(header, tree.text("src/api/symbols.txt"))
    findings += check_version(tree.text("meson.build"), tree.text("CHANGELOG.md"))
    tree.finish(sorted(findings), len(error_codes(header)) + len(functions(header)))

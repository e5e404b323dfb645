"""No function is longer than CONTRIBUTING.md allows: C and C++ by tree-sitter's grammar, Python by its own.

What the grammar cannot read is a finding as well, so that no function is passed over in silence."""

import ast
import re
import sys

import tree

try:
    import tree_sitter
    import tree_sitter_cpp
except ImportError:
    tree_sitter = None

# The grammar does not expand macros. Most look like calls. These do not: their first argument declares or is a type.
DECLARES = re.compile(r"\b((?:FM_ASSIGN|READ)\()((?:[^,()<>]|<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>)+),")
# These stand before a declaration.
DECORATES = re.compile(r"^(?!#)(.*?)(\bFINERMOE_API\b|__attribute__\(\((?:[^()]|\([^()]*\))*\)\))", re.M)


def readable(content):
    """The content for the grammar: what it would stumble over is blank, every line is where it was."""
    blank = lambda text: re.sub(r"[^\n]", " ", text)
    content = DECLARES.sub(lambda m: m[1] + blank(m[2]) + " ", content)
    while decorated := DECORATES.search(content):
        content = content[:decorated.start(2)] + blank(decorated[2]) + content[decorated.end(2):]
    return content


def cpp_functions(content):
    """([(name, first line, lines)] of all functions and lambdas, [(first, last line)] of what could not be read)."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_cpp.language()))
    functions, unread, nodes = [], [], [(parser.parse(readable(content).encode()).root_node, False)]
    while nodes:
        node, inside = nodes.pop()
        first, last = node.start_point[0] + 1, node.end_point[0] + 1
        # An error within one line loses nothing, the grammar finds its way back; a body without a head would be lost.
        if (node.type == "ERROR" and last > first) or (node.type == "compound_statement" and not inside):
            unread.append((first, last))
        elif node.type in ("function_definition", "lambda_expression"):
            functions.append((name_of(node), first, last - first + 1))
            inside = True
        nodes += [(child, inside) for child in node.children]
    return sorted(functions, key=lambda function: function[1]), sorted(unread)


def name_of(node):
    declarator = node.child_by_field_name("declarator") if node.type == "function_definition" else None
    return declarator.text.decode().partition("(")[0].strip("*& \n") if declarator else "a lambda"


def python_functions(content):
    return [(node.name, node.lineno, node.end_lineno - node.lineno + 1) for node in ast.walk(ast.parse(content))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def check(name, content, limits):
    """Findings in one file, and how many functions were measured; `limits` as tree.limits() reads them."""
    functions, unread = (python_functions(content), []) if is_python(name, content) else cpp_functions(content)
    findings = [f"{name}:{first}: tests/project/function_lengths.py cannot read lines {first} to {last}"
                for first, last in unread]
    for function, first, lines in functions:
        most = limits.get(f"{name}:{function}", limits["a function"])
        if lines > most:
            findings.append(f"{name}:{first}: {function} has {lines} lines, {most} at most")
    return findings, len(functions)


def is_python(name, content):
    return name.endswith(".py") or re.match(r"#!.*\bpython3?$", content.partition("\n")[0]) is not None


if __name__ == "__main__":
    limits = tree.limits(tree.text("CONTRIBUTING.md"))
    names = tree.files(".h", ".cc", ".c", ".inc", ".cpp", ".hpp", ".cu", ".cuh") if tree_sitter else []
    names += tree.files(".py") + [name for name in tree.files(under=("scripts/", ".ci/"))
                                  if not name.endswith(".py") and is_python(name, tree.text(name))]
    findings, measured = [], 0
    for name in names:
        found, functions = check(name, tree.text(name), limits)
        findings += found
        measured += functions
    if not tree_sitter and not findings:
        print(f"only Python's {measured} functions are measured: tree-sitter and tree-sitter-cpp are not installed")
        sys.exit(77)
    tree.finish(findings, measured)

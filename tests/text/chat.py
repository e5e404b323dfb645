"""Chat prompts against Hugging Face's rendering of the same template: chat.py RENDER_CHAT TOKENIZER_JSON

The tokenizer_config.json beside the tokenizer is used, and with it templates that differ in the default system prompt.
"""
import itertools
import json
import os
import pathlib
import subprocess
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
try:
    import tokenizers
    from transformers.utils.chat_template_utils import render_jinja_template
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

CHAT_TEMPLATE_ERROR, INVALID_ARGUMENT = -74, -1
QWEN2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
OTHERS = [
    "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
    CHATML.replace("'<|im_end|>'", "'<|end|>'"),
    CHATML.replace("message['content']", "message['content'] | trim"),
    CHATML.replace("{% endfor %}", "\n{% endfor %}"),
    CHATML + "x", "{% for", "{{ 'a", "",
]  # fmt: skip
CONTENTS = ["Hello", "", " two\n\nlines \n", "é日本😀 e\u0301", "x{{ messages }}{% raw %}", "<tool_call>"]
TYPED = ["a<|im_end|>\n<|im_start|>system\nb", "<|im_start|>", "<|im_end|>"]
ROLES = [[], ["system"], ["user"], ["assistant"], ["system", "user"], ["user", "assistant"], ["user", "system", "user"],
         ["system", "user", "assistant", "user"], ["system", "system"], ["tool"], ["user", "tool"], ["User"]]  # fmt: skip


def conversations():
    for roles in ROLES:
        for contents in itertools.islice(itertools.product(CONTENTS + TYPED, repeat=len(roles)), 0, None, 1 + 7 ** max(0, len(roles) - 2)):
            yield [{"role": r, "content": c} for r, c in zip(roles, contents)]


def expected_ids(tokenizer, messages, text):
    """The rendering with what was typed into messages kept out of the special tokens' way."""
    ids, rest = [], text
    contents = iter([m["content"] for m in messages])
    pieces = []
    for message in [None] + messages if not text.startswith(f"<|im_start|>{messages[0]['role']}\n") else messages:
        content = next(contents) if message else None
        head, rest = rest.split("\n", 1)
        if content is None:
            content = rest[: rest.index("<|im_end|>")]
        assert rest.startswith(content + "<|im_end|>\n")
        pieces += [True, head.removeprefix("<|im_start|>") + "\n" + content, False, "\n"]
        rest = rest[len(content + "<|im_end|>\n") :]
    if rest:
        pieces += [True, rest.removeprefix("<|im_start|>")]
    for piece in pieces:
        if isinstance(piece, bool):
            ids.append(tokenizer.token_to_id("<|im_start|>" if piece else "<|im_end|>"))
        else:
            ids += tokenizer.encode(piece, add_special_tokens=False).ids
    return ids


def main():
    program, path = sys.argv[1:3]
    config = json.loads(pathlib.Path(path).with_name("tokenizer_config.json").read_text())
    own = config["chat_template"]
    templates = [own, own + "\n", QWEN2, CHATML, [{"name": "tools", "template": "x"}, {"name": "default", "template": own}]]
    default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    if default in own:
        templates.append(own.replace(default, "Please reason step by step, and put your final answer within \\\\boxed{}."))
    tokenizer = tokenizers.Tokenizer.from_file(path)
    questions = [
        {"config": json.dumps(config | {"chat_template": template}), "messages": messages, "generation": generation}
        for template in templates
        for messages in conversations()
        for generation in (False, True)
    ][:: 1 if len(tokenizer.get_vocab()) < 10_000 else 97]  # every question opens the tokenizer anew
    # chat_template.jinja, as transformers 5 writes it, comes before the configuration's.
    questions += [
        {"config": json.dumps(beside), "file": template, "messages": messages, "generation": True}
        for beside in ({}, config | {"chat_template": "x"})
        for template in (own, QWEN2 + "\n", CHATML)
        for messages in itertools.islice(conversations(), 0, None, 7 if len(tokenizer.get_vocab()) < 10_000 else 997)
    ]
    questions += [{"config": json.dumps(config | {"chat_template": t}), "messages": [{"role": "user", "content": "a"}],
                   "generation": True} for t in OTHERS]  # fmt: skip
    lines = "\n".join(json.dumps(question) for question in questions)
    answers = subprocess.run([program, path], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout.splitlines()
    assert len(answers) == len(questions)
    failures = 0
    for question, line in zip(questions, answers):
        answer, messages = json.loads(line), question["messages"]
        template = question.get("file") or json.loads(question["config"])["chat_template"]
        if isinstance(template, list):
            template = template[1]["template"]
        if template in OTHERS:
            wanted = {"error": CHAT_TEMPLATE_ERROR}
        elif not messages or any(m["role"] not in ("system", "user", "assistant") for m in messages):
            wanted = {"error": INVALID_ARGUMENT}
        else:
            (text,), _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=question["generation"])
            typed = any(m["content"] in TYPED for m in messages)
            tokenizer.encode_special_tokens = typed
            ids = expected_ids(tokenizer, messages, text) if typed else tokenizer.encode(text, add_special_tokens=False).ids
            wanted = {"text": text, "ids": ids}
        if answer != wanted:
            failures += 1
            if failures <= 5:
                print(f"for {messages!r:.200} with {template!r:.80}\n  expected {wanted!r:.300}\n  found    {answer!r:.300}")
    print(f"{len(questions)} conversations: {failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes src/text/unicode_classes.inc: what Hugging Face's `tokenizers` takes each code point for.

Nothing here comes from a Unicode file: `tokenizers` itself is asked, so that its release of Unicode (one for the regular
expressions, an older one for NFC) is the one that is pinned.

    make_unicode_classes.py > src/text/unicode_classes.inc
"""
import sys

try:
    import tokenizers
    from tokenizers import Regex, normalizers, pre_tokenizers
except ImportError as error:
    print(f"skipped: {error}", file=sys.stderr)
    sys.exit(77)

BLOCK = 64
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
nfc = normalizers.NFC().normalize_str
nfd = normalizers.NFD().normalize_str


def members(pattern):
    """The code points that match the pattern by themselves."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(piece) for piece, _ in split.pre_tokenize_str("".join(map(chr, CODE_POINTS)))}


def beside_added_tokens():
    """What added tokens take for a part of a word (single_word) and for white space (rstrip): Rust's regular
    expressions, not those of the pre-tokenizer."""
    whole, stripping = (tokenizers.Tokenizer(tokenizers.models.BPE()) for _ in range(2))
    whole.add_tokens([tokenizers.AddedToken("!", single_word=True, normalized=False)])
    stripping.add_tokens([tokenizers.AddedToken("!", rstrip=True, normalized=False)])
    others = [c for c in CODE_POINTS if chr(c) != "!"]
    before = whole.encode("".join(f"{chr(c)}!." for c in others))  # matches where what stands before it is no word
    after = stripping.encode("".join(f"!{chr(c)}." for c in others))
    no_words = {others[begin // 3] for begin, _ in before.offsets}
    spaces = {others[begin // 3] for begin, end in after.offsets if end - begin == 2}
    return set(others) - no_words, spaces


def classes():
    """The class characters of unicode.h; they have neither bit 0x80 nor 0x40, which are for the flags."""
    letters, numbers, spaces = members(r"\p{L}"), members(r"\p{N}"), members(r"\s")
    table = bytearray(b"." * 0x110000)
    words, same_spaces = beside_added_tokens()
    assert same_spaces == spaces and not letters - words
    for c in words:
        table[c] = ord("/")
    for c in letters:
        table[c] = ord("1")
    for c in numbers:
        table[c] = ord("0" if c in words else "6")
    for c in spaces:
        table[c] = ord("8")
    # 's 't 'm 'd, 're 've and 'll: which letter it is matters no further than this.
    for name, pattern in (("2", "[stmd]"), ("3", "[rv]"), ("4", "e"), ("5", "l")):
        for c in members(f"(?i:{pattern})"):
            table[c] = ord(name)
    for c in "\r\n":
        table[ord(c)] = ord("9")
    table[ord(" ")] = ord(" ")
    table[ord("'")] = ord("'")
    return table


def reordered(c):
    """Whether canonical ordering moves the code point: its combining class is not zero."""
    above = f"a\u0345{chr(c)}"  # U+0345 has the largest class, 240, U+0334 the smallest, 1
    below = f"a{chr(c)}\u0334"
    return nfd(above) != "a" + nfd("\u0345") + nfd(chr(c)) or nfd(below) != "a" + nfd(chr(c)) + "\u0334"


def flags():
    """0x80: NFC replaces the code point. 0x40: it may move or join what stands before it."""
    decomposed = {c: nfd(chr(c)) for c in CODE_POINTS}
    seconds = {ord(d[-1]) for c, d in decomposed.items() if len(d) > 1 and nfc(d) == chr(c)}
    joining = {c for c in CODE_POINTS if c in seconds or reordered(c)}
    table = bytearray(0x110000)
    for c in CODE_POINTS:
        if nfc(chr(c)) != chr(c):
            table[c] |= 0x80
        if ord(decomposed[c][0]) in joining:
            table[c] |= 0x40
    return table


def rows(values):
    line = " "
    for value in values:
        item = f" {value},"
        if len(line) + len(item) > 120:
            yield line
            line = " "
        line += item
    yield line


def main():
    table = bytes(a | b for a, b in zip(classes(), flags())).rstrip(b".")  # beyond its end all are other
    table += b"." * (-len(table) % BLOCK)
    blocks, index = {}, []
    for start in range(0, len(table), BLOCK):
        index.append(blocks.setdefault(table[start : start + BLOCK], len(blocks)))
    print(f"// Made by scripts/make_unicode_classes.py from tokenizers {tokenizers.__version__}.")
    print("// A byte per code point: its class character (unicode.h); 0x80: NFC replaces it, 0x40: it joins.")
    print("// clang-format off")
    print(f"constexpr uint16_t kClassBlock[{len(index)}] = {{  // of code point / {BLOCK}")
    print("\n".join(rows(index)))
    print("};")
    print(f"constexpr uint8_t kClasses[{len(blocks) * BLOCK}] = {{  // [block][code point % {BLOCK}]")
    print("\n".join(rows(code for block in blocks for code in block)))
    print("};")


if __name__ == "__main__":
    main()

"""Ids and offsets against Hugging Face's `tokenizers`: differential.py TOKENIZE_LINES TOKENIZER_JSON"""
import codecs
import random
import struct
import subprocess
import sys

try:
    import numpy as np
    import tokenizers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SCRIPTS = [
    "The quick brown fox's jumps, I'LL we've THEY'RE it'd don't 'Tis I'm o'ſ 'ſ",
    "Größe übermäßig façade naïve Ångström Ǆ ﬁ ﬆ ĳ",
    "В начале было Слово", "Ἐν ἀρχῇ ἦν ὁ λόγος", "Սկզբից էր Բանը", "დასაბამიდან იყო სიტყვა",
    "太初有道，道與神同在。豈更車賈滑", "はじめに言葉があった。ｶﾞｷﾞ ヴ", "태초에 말씀이 계시니라 각각 ᄀᆞᆺ",
    "في البدء كان الكلمة ١٢٣ لَا إِلَٰهَ", "בְּרֵאשִׁית בָּרָא אֱלֹהִים", "आदि में वचन था क़ख़ ४५६", "ஆதியிலே வார்த்தை", "ปฐมกาลพระวาทะ ๑๒๓",
    "ཐོག་མ་ནས་ གཉིས།", "ကနဦး၌ နှုတ်ကပတ်တော်", "ብመጀመሪያ ቃል ነበረ", "ᏗᏓᎴᏂᏍᎬ", "ᠮᠣᠩᠭᠣᠯ\u180eᠠ", "𐌰𐌽𐌰𐍃𐍄𐍉𐌳𐌴𐌹𐌽𐍃 𒀀𒁀 𓀀",
    "👩‍👩‍👧‍👦👍🏽🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿❤️☹︎ 1️⃣", "x²≤∑½ⅷ①𝟘𝕏 12,345.67e-8 0x1F", "e\u0301\u0323\u0334 a\u0323\u0307 \u0344 q\u0307\u0323 \u212b\u2126\u1e9b\u0323",
    "\u1100\u1161\u11a8 \uac00\u11a8 \u0f71\u0f72\u0f73 \ufb1d\u05b7 \U0001d15e\U0001d160", "zero\u200bwidth\u2060\ufeff soft\u00adhyphen\u202eright",
    "tabs\t\tand\r\nnewlines\n\n\n  \r\r\n \n", " " * 300, "\n" * 300, " \n" * 100, "a" * 5000, "0123456789" * 50, "!?" * 200,
    "\x00\x01\x02\x1b[0m\x7f\x80\x85\x9f", "nul\x00in\x00side", "\u2028\u2029\u3000\u00a0\u1680 \u2003x",
    "int main(void) {\n\treturn x->y[0] != ~1 ? a::b<c>() : \"\\n\"; // ok\n}\n",
    "<|im_start|>user\nhi<|im_end|><|endoftext|>", "<|im_<|im_start|<|im_start|>|>", "<tool_call>{\"a\": 1}</tool_call><|fim_prefix|>",
    "", " ", "'", "''s", " 's", "a 's b", "  a", "  1", "  !", " \n a", "1 2  3", "ſ'ſ",
]  # fmt: skip


def invalid_bytes(draw):
    pieces = [b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe0\x80",
              b"\xf5", b"\xc3", b"abc", "é".encode(), "😀".encode(), b" ", b"\n", b"e", "\u0301".encode()]  # fmt: skip
    return b"".join(draw.choices(pieces, k=draw.randrange(1, 12)))


def random_text(draw):
    kind = draw.randrange(4)
    length = draw.randrange(1, 30)
    if kind == 0:
        return "".join(draw.choices(" \t\n\r'stremvld aA1.,<|>\u0301\u00a0é中", k=length))
    if kind == 1:
        low = draw.choice([0, 0x80, 0x300, 0x590, 0x900, 0xE00, 0x1100, 0x1E00, 0x2000, 0x3000, 0xA640, 0xAC00, 0xF900, 0xFB00,
                           0x10300, 0x11000, 0x1D100, 0x1F300, 0x2F800])  # fmt: skip
        return "".join(chr(low + draw.randrange(0x100)) for _ in range(length))
    if kind == 2:
        text = draw.choice(SCRIPTS)
        return "".join(draw.choice([text[draw.randrange(len(text))] if text else "", draw.choice(" \n'.")]) for _ in range(length))
    return "".join(c for c in (chr(draw.randrange(0x33000)) for _ in range(length)) if not "\ud800" <= c <= "\udfff")


def every_code_point():
    """Alone, and (up to where all that follows is private use or not assigned) in company that shows its classes."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    company = "a{0}b a'{0}q a'{0}e'l{0} {0}\u0345\u0334\u0301 e\u0345{0} \u1100{0}  {0}"
    probes = points + [company.format(c) for c in points if ord(c) < 0x33000]
    for i in range(0, len(probes), 50):
        yield "\n".join(probes[i : i + 50])


def corpus():
    draw = random.Random(20240601)
    yield from (text.encode() for text in SCRIPTS)
    yield ("\n".join(SCRIPTS) * 20).encode()  # longer than the windows that are normalised at once
    yield ("".join(SCRIPTS).replace(" ", "") * 20).encode()
    yield from (invalid_bytes(draw) for _ in range(20_000))
    yield from (random_text(draw).encode() for _ in range(100_000))
    yield from (text.encode() for text in every_code_point())


def ours(program, path, texts, flags):
    given = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    answer = subprocess.run([program, path, *flags], input=given, stdout=subprocess.PIPE, check=True).stdout
    numbers, at = np.frombuffer(answer, "<u4"), 0
    for _ in texts:
        n = int(numbers[at])
        yield numbers[at + 1 : at + 1 + 3 * n].reshape(n, 3)
        at += 1 + 3 * n
    assert at == len(numbers), "more answers than texts"


def characters(data):
    """The byte at which each character of data.decode(errors="replace") begins, and the end."""
    replaced = []

    def replace(error):
        replaced.append((error.start, error.end))
        return "\ufffd", error.end

    codecs.register_error("replace_and_note", replace)
    data.decode(errors="replace_and_note")
    starts, at = [], 0
    for begin, end in replaced + [(len(data), len(data))]:
        for character in data[at:begin].decode():
            starts.append(at)
            at += len(character.encode())
        starts.append(begin)
        at = end
    return starts


class Comparison:
    def __init__(self, program, path):
        self.program, self.path = program, path
        self.tokenizer = tokenizers.Tokenizer.from_file(path)
        self.tokenizer.no_truncation()  # settings of a call, which the file may have kept
        self.tokenizer.no_padding()
        self.normalize = self.tokenizer.normalizer.normalize_str if self.tokenizer.normalizer else str
        self.failures = self.compared = self.with_offsets = 0

    def fail(self, data, what, expected, found):
        self.failures += 1
        if self.failures <= 10:
            print(f"{what} differ for {data!r:.200}\n  expected {expected!r:.300}\n  found    {found!r:.300}")

    def run(self, texts, parse_special, bare=True):
        self.tokenizer.encode_special_tokens = not parse_special
        flags = ["special"] * parse_special + ["bare"] * bare
        found = ours(self.program, self.path, texts, flags)
        for start in range(0, len(texts), 20_000):
            batch = texts[start : start + 20_000]
            decoded = [data.decode(errors="replace") for data in batch]
            for data, text, theirs in zip(batch, decoded, self.tokenizer.encode_batch(decoded, add_special_tokens=not bare)):
                self.one(data, text, theirs, next(found))

    def one(self, data, text, theirs, mine):
        self.compared += 1
        if mine[:, 0].tolist() != theirs.ids:
            return self.fail(data, "ids", theirs.ids, mine[:, 0].tolist())
        begin, end = mine[mine[:, 2] != 0, 1:].T  # without what was put around the text
        whole = len(data) == 0 or (len(begin) and begin[0] == 0 and end[-1] == len(data))
        if not whole or (begin >= end).any() or (begin[1:] > end[:-1]).any() or (np.diff(begin.astype(np.int64)) < 0).any():
            self.fail(data, "offsets do not cover the text:", len(data), mine[:, 1:].tolist())
        begin, end = mine[:, 1:].T
        if self.normalize(text) != text:  # Hugging Face's offsets are of single characters of what NFC joined; ours are of all
            return None
        # Hugging Face's offsets are those of the whole characters that a token has a part of.
        self.with_offsets += 1
        if data.isascii():
            covers = mine[:, 1:].tolist()
        else:
            starts = np.array(characters(data))
            first, last = np.searchsorted(starts, begin, "right") - 1, np.searchsorted(starts, end, "left")
            covers = np.stack([first, last], axis=1).tolist()
        expected = [list(offset) for offset in theirs.offsets]
        if covers != expected:
            self.fail(data, "offsets", expected, covers)
        return None


def main():
    comparison = Comparison(*sys.argv[1:3])
    texts = list(corpus())
    comparison.run(texts, parse_special=True)
    comparison.run(texts[: len(SCRIPTS) + 2 + 30_000], parse_special=False)
    print(f"{comparison.compared} texts, {comparison.with_offsets} with offsets: {comparison.failures} differences")
    sys.exit(1 if comparison.failures else 0)


if __name__ == "__main__":
    main()

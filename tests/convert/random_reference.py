"""The random streams of docs/upcycling.md in Python, without numpy: prints the golden values of random_test.cc.

Python's floats are IEEE doubles and its + - * / round as C++'s do without contraction, so the bits are the same.
"""
import struct
from math import factorial

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
LN_2 = 0.693147180559945309417
TAIL = 3.6541528853610088
AREA = 0.004928673233974658
INVERSE_FACTORIALS = [1.0]
for k in range(1, 15):
    INVERSE_FACTORIALS.append(1 / factorial(k))


def mix(x):
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def fnv(data, value=0xCBF29CE484222325):
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def stream_key(seed, name):
    return mix(mix((seed + GOLDEN) & MASK) ^ fnv(name.encode()))


def logarithm(x):
    bits = struct.unpack("<Q", struct.pack("<d", x))[0]
    exponent = (bits >> 52) - 1023
    mantissa = struct.unpack("<d", struct.pack("<Q", bits & ((1 << 52) - 1) | 1023 << 52))[0]
    if mantissa > 1.414213562373095:
        mantissa *= 0.5
        exponent += 1
    s = (mantissa - 1) / (mantissa + 1)
    total = 0.0
    for k in range(11, -1, -1):
        total = total * (s * s) + 1.0 / (2 * k + 1)
    return exponent * LN_2 + 2 * s * total


def exponential(x):
    power = int(x / LN_2 - 0.5)
    rest = x - power * LN_2
    total = 0.0
    for inverse_factorial in reversed(INVERSE_FACTORIALS):
        total = total * rest + inverse_factorial
    return total * 2.0**power


def density(x):
    return exponential(-0.5 * x * x)


def square_root(x):
    root = x if x > 1 else 1.0
    following = 0.5 * (root + x / root)
    while following < root:
        root = following
        following = 0.5 * (root + x / root)
    return root


EDGE = [AREA / density(TAIL), TAIL]
for i in range(2, 256):
    EDGE.append(square_root(-2 * logarithm(AREA / EDGE[-1] + density(EDGE[-1]))))
EDGE.append(0.0)
DENSITY = [density(x) for x in EDGE]


class Stream:
    def __init__(self, key, block):
        start = mix((key + mix((block + GOLDEN) & MASK)) & MASK)
        self.state = [mix((start + (i + 1) * GOLDEN) & MASK) for i in range(4)]

    def next(self):
        def rotate(x, by):
            return (x << by | x >> (64 - by)) & MASK

        s = self.state
        result = (rotate((s[0] + s[3]) & MASK, 23) + s[0]) & MASK
        shifted = s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotate(s[3], 45)
        return result

    def uniform(self):
        return ((self.next() >> 12) + 0.5) * 2.0**-52

    def below(self, bound):
        mask = (1 << max(1, (bound - 1).bit_length())) - 1
        while True:
            value = self.next() & mask
            if value < bound:
                return value

    def normal(self):
        while True:
            bits = self.next()
            layer = bits & 255
            place = (bits if bits < 1 << 63 else bits - (1 << 64)) >> 11
            x = place * 2.0**-52 * EDGE[layer]
            if abs(x) < EDGE[layer + 1]:
                return x
            if layer == 0:
                while True:
                    beyond = -logarithm(self.uniform()) / TAIL
                    if -2 * logarithm(self.uniform()) > beyond * beyond:
                        return -TAIL - beyond if x < 0 else TAIL + beyond
            height = DENSITY[layer] + self.uniform() * (DENSITY[layer + 1] - DENSITY[layer])
            if height < density(x):
                return x


if __name__ == "__main__":
    stream = Stream(stream_key(7, "model.layers.0.mlp.gate.weight"), 3)
    print("integers", ", ".join(f"{stream.next():#018x}" for _ in range(4)))
    stream = Stream(stream_key(7, "model.layers.0.mlp.gate.weight"), 0)
    hash_ = fnv(b"")
    for _ in range(200000):
        hash_ = fnv(struct.pack("<d", stream.normal()), hash_)
    print("normals ", f"{hash_:#018x}")

// Every half and every bfloat16 against arithmetic in double.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace finermoe {
namespace {

// The value of a number of `exponent_bits` and `mantissa_bits`, by the definition of the format.
double value_of(uint32_t bits, int exponent_bits, int mantissa_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1, largest = (1 << exponent_bits) - 1;
  int exponent = static_cast<int>(bits >> mantissa_bits) & largest;
  double mantissa = bits & ((1u << mantissa_bits) - 1), unit = std::ldexp(1.0, -mantissa_bits);
  double sign = bits >> (exponent_bits + mantissa_bits) ? -1 : 1;
  if (exponent == largest) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa * unit, 1 - bias);
  return sign * std::ldexp(1 + mantissa * unit, exponent - bias);
}

struct Format {
  const char* name;
  int exponent_bits, mantissa_bits;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
};
const Format formats[] = {{"f16", 5, 10, f16_to_float, float_to_f16}, {"bf16", 8, 7, bf16_to_float, float_to_bf16}};

// The nearest number of the format, ties to even, found by search.
uint16_t nearest(const Format& format, float value) {
  uint32_t sign = std::signbit(value) ? 0x8000 : 0;
  uint32_t infinity = ((1u << format.exponent_bits) - 1) << format.mantissa_bits;
  double magnitude = std::fabs(static_cast<double>(value));
  uint32_t low = 0, high = infinity;  // low <= magnitude < high, in the order of the bits
  if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | infinity);
  while (high - low > 1) {
    uint32_t middle = (low + high) / 2;
    (value_of(middle, format.exponent_bits, format.mantissa_bits) <= magnitude ? low : high) = middle;
  }
  double below = value_of(low, format.exponent_bits, format.mantissa_bits);
  // Past the largest number, rounding goes on as if the exponent did.
  double above = high == infinity ? std::ldexp(1.0, 1 << (format.exponent_bits - 1))
                                  : value_of(high, format.exponent_bits, format.mantissa_bits);
  double to_low = magnitude - below, to_high = above - magnitude;
  bool up = to_high < to_low || (to_high == to_low && (low & 1) != 0);
  return static_cast<uint16_t>(sign | (up ? high : low));
}

TEST(DType, EveryValueWidens) {
  for (const Format& format : formats) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
      double expected = value_of(bits, format.exponent_bits, format.mantissa_bits);
      float found = format.widen(static_cast<uint16_t>(bits));
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(found)) << format.name << " " << bits;
      } else {
        ASSERT_EQ(found, expected) << format.name << " " << bits;
        ASSERT_EQ(std::signbit(found), std::signbit(expected)) << format.name << " " << bits;
        ASSERT_EQ(format.narrow(found), bits) << format.name;
      }
    }
  }
}

TEST(DType, NanStaysNan) {
  for (const Format& format : formats) {
    for (uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
      EXPECT_TRUE(std::isnan(format.widen(format.narrow(std::bit_cast<float>(bits))))) << format.name << " " << bits;
    }
  }
}

TEST(DType, RoundsToNearestEven) {
  for (const Format& format : formats) {
    auto check = [&](float value) { ASSERT_EQ(format.narrow(value), nearest(format, value)) << format.name << value; };
    // Around every number of the format: itself, the midpoint to the next, and their neighbours.
    for (uint32_t bits = 0; bits < 65536; bits++) {
      float value = format.widen(static_cast<uint16_t>(bits)), next = format.widen(static_cast<uint16_t>(bits + 1));
      if (!std::isfinite(value) || !std::isfinite(next)) continue;
      for (float at : {value, static_cast<float>((double(value) + double(next)) / 2)}) {
        check(at);
        check(std::nextafter(at, INFINITY));
        check(std::nextafter(at, -INFINITY));
      }
    }
    std::mt19937 random(1);
    for (int i = 0; i < 200000; i++) {
      float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
      if (!std::isnan(value)) check(value);
    }
  }
}

}  // namespace
}  // namespace finermoe

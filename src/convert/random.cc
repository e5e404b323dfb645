#include "convert/random.h"

#include <bit>

namespace finermoe {
namespace {

// The last bits of libm's results differ between versions, so logarithm, exponential and (for the table, which is
// computed at compile time) square root are built here from operations that IEEE 754 defines to the last bit.
constexpr double ln_2 = 0.693147180559945309417;

constexpr double natural_logarithm(double x) {  // of a normal positive number
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);  // [1, 2)
  if (mantissa > 1.414213562373095) {
    mantissa *= 0.5;
    exponent += 1;
  }
  double s = (mantissa - 1) / (mantissa + 1), s2 = s * s, sum = 0;   // |s| < 0.172
  for (int k = 11; k >= 0; --k) sum = sum * s2 + 1.0 / (2 * k + 1);  // ln m = 2 (s + s³/3 + s⁵/5 + …)
  return exponent * ln_2 + 2 * s * sum;
}

constexpr std::array<double, 15> inverse_factorials = [] {
  std::array<double, 15> out{1};
  double factorial = 1;
  for (size_t k = 1; k < out.size(); ++k) out[k] = 1 / (factorial *= static_cast<double>(k));
  return out;
}();

constexpr double exponential(double x) {  // of a number in [-700, 0]
  int power = static_cast<int>(x / ln_2 - 0.5);
  double rest = x - power * ln_2, sum = 0;  // |rest| <= ln 2 / 2
  for (size_t k = inverse_factorials.size(); k-- > 0;) sum = sum * rest + inverse_factorials[k];
  return sum * std::bit_cast<double>(static_cast<uint64_t>(power + 1023) << 52);
}

constexpr double square_root(double x) {
  double root = x > 1 ? x : 1;
  for (double next = 0.5 * (root + x / root); next < root; next = 0.5 * (root + x / root)) root = next;
  return root;
}

constexpr double normal_density(double x) { return exponential(-0.5 * x * x); }

constexpr double tail_start = 3.6541528853610088;    // where the 256 layers of equal area meet the tail
constexpr double layer_area = 0.004928673233974658;  // of each, and of the base layer with the tail

constexpr ziggurat::Table make_table() {
  ziggurat::Table table{};
  table.edge[0] = layer_area / normal_density(tail_start);
  table.edge[1] = tail_start;
  for (size_t i = 2; i < 256; ++i) {
    double height = layer_area / table.edge[i - 1] + normal_density(table.edge[i - 1]);
    table.edge[i] = square_root(-2 * natural_logarithm(height));
  }
  table.edge[256] = 0;
  for (size_t i = 0; i < 257; ++i) table.density[i] = normal_density(table.edge[i]);
  return table;
}

constexpr uint64_t mix(uint64_t x) {  // SplitMix64's output function
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}
constexpr uint64_t golden = 0x9e3779b97f4a7c15u;  // SplitMix64's step

}  // namespace

constexpr ziggurat::Table ziggurat::table = make_table();

uint64_t stream_key(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(mix(seed + golden) ^ hash);
}

RandomStream::RandomStream(uint64_t key, uint64_t block) {
  uint64_t start = mix(key + mix(block + golden));
  for (size_t i = 0; i < state_.size(); ++i) state_[i] = mix(start + (i + 1) * golden);
}

uint64_t RandomStream::below(uint64_t bound) {
  uint64_t mask = ~uint64_t{0} >> std::countl_zero((bound - 1) | 1);  // draws above the bound are drawn again
  for (;;) {
    uint64_t value = next() & mask;
    if (value < bound) return value;
  }
}

double RandomStream::normal_outside(size_t layer, double x) {
  const ziggurat::Table& table = ziggurat::table;
  if (layer == 0) {  // the tail, by Marsaglia's method
    for (;;) {
      double beyond = -natural_logarithm(uniform()) / tail_start;
      if (-2 * natural_logarithm(uniform()) > beyond * beyond)
        return x < 0 ? -tail_start - beyond : tail_start + beyond;
    }
  }
  double height = table.density[layer] + uniform() * (table.density[layer + 1] - table.density[layer]);
  return height < normal_density(x) ? x : normal();
}

}  // namespace finermoe

// Random numbers that are the same on every machine: integers from xoshiro256++, normal numbers by the ziggurat method
// using only IEEE additions, multiplications, divisions and square roots. docs/upcycling.md specifies the streams.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace finermoe {

// The part of the key common to all streams of a tensor, from the seed and the tensor's name.
uint64_t stream_key(uint64_t seed, std::string_view name);

namespace ziggurat {
// The density e^(-x²/2) is covered by 256 layers of equal area: layer i extends from edge[i] down to edge[i + 1].
struct Table {
  std::array<double, 257> edge;     // edge[0] is that of the base layer's rectangle with the tail's area added
  std::array<double, 257> density;  // at the edges
};
extern const Table table;
}  // namespace ziggurat

// One stream: the numbers of one block of a tensor.
class RandomStream {
 public:
  RandomStream(uint64_t key, uint64_t block);

  uint64_t next() {
    uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0], shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }
  double uniform() { return (static_cast<double>(next() >> 12) + 0.5) * 0x1p-52; }  // in (0, 1)
  uint64_t below(uint64_t bound);                                                   // in [0, bound), bound > 0
  double normal() {
    uint64_t bits = next();
    size_t layer = bits & 255;  // the low 8 bits; the high 53 give the position in it, sign included
    double x = static_cast<double>(static_cast<int64_t>(bits) >> 11) * 0x1p-52 * ziggurat::table.edge[layer];
    bool inside = x < ziggurat::table.edge[layer + 1] && -x < ziggurat::table.edge[layer + 1];
    return inside ? x : normal_outside(layer, x);
  }

 private:
  static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }
  double normal_outside(size_t layer, double x);  // the 1.5 % that fall outside a layer's inner rectangle
  std::array<uint64_t, 4> state_;
};

}  // namespace finermoe

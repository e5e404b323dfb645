// Matrix tiles (AMX): one instruction multiplies 16 x 32 BF16 by 32 x 16 and adds to 16 x 16 float32. What its kernels
// share; they are compiled with AVX-512 as well, and use its vectors.
#pragma once

#include "cpu/kernels/tile.h"
#include "cpu/kernels/tile_configuration.h"

namespace finermoe::amx {

void matmul(const Matmul& task);
size_t matmul_scratch(size_t n, size_t columns);
void attention(const AttentionTask& task);
size_t attention_scratch(size_t head_size);

namespace {

using namespace avx512;

constexpr size_t tile_lines = 16;       // rows of a tile
constexpr size_t tile_line_bytes = 64;  // 32 BF16 or 16 float32
constexpr size_t tile_bytes = tile_lines * tile_line_bytes;
constexpr size_t tile_step_columns = 32;  // columns of the weights that one instruction adds up
// The right operand of a product has pairs: line p holds columns 2p and 2p + 1 of 16 rows of the weights.
constexpr size_t tile_pairs = tile_step_columns / 2;

// Tiles are in use while this exists. Registers 0 to 3 hold sums [two blocks of rows][two of columns], 4 and 5 the left
// operands, 6 and 7 the right ones. Empty tiles afterwards spare the system saving them.
class Tiles {
 public:
  Tiles() {
    // Not a local variable: GCC does not know that the instruction reads all of it.
    static constexpr TileConfiguration configuration;
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// GCC's intrinsics that load a tile do not say that they read memory: what is stored before has to be in memory.
inline void before_loads() { __asm__ volatile("" ::: "memory"); }

// 16 lines of 64 bytes, `stride` bytes apart.
struct Lines {
  const char* at;
  size_t stride;
};

// sums[i][j] += left[i] times right[j] over `steps` steps. Each step the left lines go 64 bytes on, and the right ones
// `right_step` bytes. `beside` is called once a step, for other work while tiles are multiplied.
template <bool TwoLeft, bool TwoRight, class Beside>
inline void multiply_tiles(const Lines* left, const Lines* right, size_t right_step, size_t steps,
                           const Beside& beside) {
  before_loads();
  for (size_t k = 0; k < steps; k++) {
    _tile_loadd(4, left[0].at + k * tile_line_bytes, left[0].stride);
    if constexpr (TwoLeft) _tile_loadd(5, left[1].at + k * tile_line_bytes, left[1].stride);
    _tile_loadd(6, right[0].at + k * right_step, right[0].stride);
    if constexpr (TwoRight) _tile_loadd(7, right[1].at + k * right_step, right[1].stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (TwoRight) _tile_dpbf16ps(1, 4, 7);
    if constexpr (TwoLeft) _tile_dpbf16ps(2, 5, 6);
    if constexpr (TwoLeft && TwoRight) _tile_dpbf16ps(3, 5, 7);
    beside();
  }
}
template <bool TwoLeft, bool TwoRight>
inline void multiply_tiles(const Lines* left, const Lines* right, size_t right_step, size_t steps) {
  multiply_tiles<TwoLeft, TwoRight>(left, right, right_step, steps, [] {});
}

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// sums[i][j]; the register is part of the instruction.
inline void load_sums(size_t i, size_t j, const float* from, size_t stride) {
  before_loads();
  switch (2 * i + j) {
    case 0:
      _tile_loadd(0, from, stride);
      break;
    case 1:
      _tile_loadd(1, from, stride);
      break;
    case 2:
      _tile_loadd(2, from, stride);
      break;
    default:
      _tile_loadd(3, from, stride);
      break;
  }
}
inline void store_sums(size_t i, size_t j, float* to, size_t stride) {
  switch (2 * i + j) {
    case 0:
      _tile_stored(0, to, stride);
      break;
    case 1:
      _tile_stored(1, to, stride);
      break;
    case 2:
      _tile_stored(2, to, stride);
      break;
    default:
      _tile_stored(3, to, stride);
      break;
  }
}

}  // namespace
}  // namespace finermoe::amx

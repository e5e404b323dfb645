// The codes of Q8 and Q4 blocks (base/blocks.h) as bytes.
#pragma once

#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t chunk_bytes = 4 * panel_rows;  // codes of 4 columns of a panel

// q4_values plus 128, as Q8 stores its codes.
inline void make_table(unsigned char* table) {
  for (size_t i = 0; i < 16; i++) table[i] = static_cast<unsigned char>(q4_values[i] + 128);
}

// The codes of columns 4 c to 4 c + 3 of a block, for the rows of vector `half`, as bytes.
template <bool Packed>
inline Codes codes_of(const unsigned char* codes, size_t c, size_t half, const unsigned char* table) {
  const size_t within = half * 4 * lanes;
  if constexpr (!Packed) return load_codes(codes + c * chunk_bytes + within);
  const Codes both = load_codes(codes + c % 4 * chunk_bytes + within);
  return look_up(table, c < 4 ? low_halves(both) : high_halves(both));
}

}  // namespace
}  // namespace finermoe::FINERMOE_KERNELS

#include "cpu/kv_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace finermoe {
namespace {

// The element of a position and a column, within panels (Q8: codes of a block) that are `width` columns wide.
template <uint64_t F>
uint64_t element_at(KvKind kind, uint64_t position, uint64_t column, uint64_t width) {
  return kind == KvKind::key ? (column / F * panel_rows + position) * F + column % F
                             : (position / F * width + column) * F + position % F;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

}  // namespace

uint64_t KvLayout::width() const {
  return dtype_ == DType::q8 ? blocks_of(head_size_) * block_columns : (head_size_ + 15) / 16 * 16;
}
uint64_t KvLayout::panel_bytes() const {
  return dtype_ == DType::q8 ? blocks_of(head_size_) * q8_block_bytes : width() * panel_rows * size_of(dtype_);
}

// Calls visit<T>(offset in the head, offset in the vector) for each element, a T; in Q8 for the scale of each block and
// then for its codes.
template <class Visit>
void KvLayout::for_each_part(KvKind kind, uint64_t position, Visit visit) const {
  const uint64_t panel = position / panel_rows * panel_bytes(), p = position % panel_rows, w = width();
  auto elements = [&]<class T, uint64_t F>(T, std::integral_constant<uint64_t, F>) {
    for (uint64_t c = 0; c < head_size_; c++) {
      visit.template operator()<T>(panel + element_at<F>(kind, p, c, w) * sizeof(T), c * sizeof(T));
    }
  };
  if (dtype_ == DType::f32) return elements(uint32_t{}, std::integral_constant<uint64_t, 1>{});
  if (dtype_ == DType::f16) return elements(uint16_t{}, std::integral_constant<uint64_t, 1>{});
  if (dtype_ == DType::bf16) return elements(uint16_t{}, std::integral_constant<uint64_t, 2>{});
  const uint64_t n_blocks = blocks_of(head_size_), codes = n_blocks * sizeof(uint16_t);
  for (uint64_t b = 0; b < n_blocks; b++) {
    const uint64_t block = panel + b * q8_block_bytes;
    visit.template operator()<uint16_t>(block + p * sizeof(uint16_t), b * sizeof(uint16_t));
    for (uint64_t c = 0; c < block_columns; c++) {
      visit.template operator()<uint8_t>(block + block_scale_bytes + element_at<4>(kind, p, c, block_columns),
                                         codes + b * block_columns + c);
    }
  }
}

void KvLayout::quantize(const float* x, std::byte* vector) const {
  const uint64_t n_blocks = blocks_of(head_size_);
  std::byte* codes = vector + n_blocks * sizeof(uint16_t);
  for (uint64_t b = 0; b < n_blocks; b++) {
    const float* from = x + b * block_columns;
    const uint64_t n = std::min<uint64_t>(block_columns, head_size_ - b * block_columns);
    float max_abs = 0, not_finite = 0;  // zeros, or NaN from NaN and infinity
    for (uint64_t c = 0; c < n; c++) {
      max_abs = std::max(max_abs, std::fabs(from[c]));
      not_finite += from[c] * 0;
    }
    const uint16_t scale = float_to_f16(max_abs / 127 + not_finite);
    const float inverse = f16_to_float(scale) > 0 ? 1 / f16_to_float(scale) : 0;
    store(vector + b * sizeof scale, scale);
    for (uint64_t c = 0; c < block_columns; c++) {
      const float value = c < n && not_finite == 0 ? from[c] * inverse : 0;
      store(codes + b * block_columns + c, static_cast<int8_t>(std::lrintf(std::clamp(value, -127.0f, 127.0f))));
    }
  }
}

void KvLayout::encode(const float* x, std::byte* vector) const {
  if (dtype_ == DType::q8) return quantize(x, vector);
  for (uint64_t c = 0; c < head_size_; c++) {
    if (dtype_ == DType::f32) store(vector + c * sizeof(float), x[c]);
    if (dtype_ == DType::f16) store(vector + c * sizeof(uint16_t), float_to_f16(x[c]));
    if (dtype_ == DType::bf16) store(vector + c * sizeof(uint16_t), float_to_bf16(x[c]));
  }
}

void KvLayout::put(KvKind kind, const std::byte* vector, uint64_t position, std::byte* head) const {
  for_each_part(kind, position, [&]<class T>(uint64_t to, uint64_t from) {
    const T part = load<T>(vector + from);
    store(head + to, sizeof part == 1 && kind == KvKind::key ? static_cast<T>(part ^ 0x80) : part);
  });
}

void KvLayout::get(KvKind kind, const std::byte* head, uint64_t position, std::byte* vector) const {
  for_each_part(kind, position, [&]<class T>(uint64_t from, uint64_t to) {
    const T part = load<T>(head + from);
    store(vector + to, sizeof part == 1 && kind == KvKind::key ? static_cast<T>(part ^ 0x80) : part);
  });
}

void KvLayout::decode(KvKind kind, const std::byte* head, uint64_t position, float* out) const {
  const uint64_t codes = blocks_of(head_size_) * sizeof(uint16_t);
  float scale = 0;
  for_each_part(kind, position, [&]<class T>(uint64_t from, uint64_t to) {
    const T part = load<T>(head + from);
    if constexpr (sizeof part == 4) {
      out[to / sizeof part] = std::bit_cast<float>(part);
    } else if constexpr (sizeof part == 1) {
      const int code = kind == KvKind::key ? part - 128 : static_cast<int8_t>(part);
      if (to - codes < head_size_) out[to - codes] = scale * static_cast<float>(code);
    } else if (dtype_ == DType::q8) {
      scale = f16_to_float(part);
    } else {
      out[to / sizeof part] = dtype_ == DType::bf16 ? bf16_to_float(part) : f16_to_float(part);
    }
  });
}

}  // namespace finermoe

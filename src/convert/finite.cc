#include "convert/finite.h"

#include <algorithm>
#include <cstring>

namespace finermoe {
namespace {

// Counts the elements whose magnitude bits equal those of infinity, or are larger: NaN.
template <class Word>
NonFinite count(const std::byte* data, uint64_t n, Word infinity) {
  constexpr Word magnitude = static_cast<Word>(~Word{0}) >> 1;
  NonFinite found;
  for (uint64_t i = 0; i < n; i++) {
    Word bits;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);  // a file may hold its tensors at any offset
    found.n_nan += (bits & magnitude) > infinity;
    found.n_infinite += (bits & magnitude) == infinity;
  }
  return found;
}

}  // namespace

NonFinite count_non_finite(DType dtype, const std::byte* data, uint64_t bytes) {
  if (is_blocked(dtype)) {
    NonFinite found;
    for (uint64_t at = 0; at < bytes; at += block_bytes(dtype)) {
      const NonFinite scales = count<uint16_t>(data + at, panel_rows, 0x7c00);
      found.n_nan += scales.n_nan;
      found.n_infinite += scales.n_infinite;
    }
    return found;
  }
  if (dtype == DType::f32) return count<uint32_t>(data, bytes / 4, 0x7f800000u);
  const uint16_t infinity = dtype == DType::bf16 ? 0x7f80 : 0x7c00;
  return count<uint16_t>(data, bytes / 2, infinity);
}

Status refuse_not_finite(const Checkpoint& checkpoint, const Progress& progress) {
  constexpr uint64_t piece_bytes = 16 << 20;
  uint64_t total = 0, done = 0;
  for (const Tensor& tensor : checkpoint.tensors()) total += tensor.bytes();
  for (const Tensor& tensor : checkpoint.tensors()) {
    for (uint64_t offset = 0, n; offset < tensor.bytes(); offset += n) {
      n = std::min(whole_items(tensor.dtype, piece_bytes), tensor.bytes() - offset);
      FM_TRY(checkpoint.check_unchanged());
      const NonFinite found = count_non_finite(tensor.dtype, tensor.data + offset, n);
      if (found.any()) {
        return Status(FINERMOE_ERROR_NOT_FINITE, format_text("tensor ", tensor.name, " holds NaN or infinity"),
                      "finite weights", format_text(found.n_nan, " NaN and ", found.n_infinite, " infinite"));
      }
      done += n;
      FM_TRY(progress.report("verify", done, total));
    }
  }
  return {};
}

Status refuse_quantized(const Checkpoint& checkpoint, const std::string& path) {
  for (const Tensor& tensor : checkpoint.tensors()) {
    if (!is_blocked(tensor.dtype)) continue;
    return Status(FINERMOE_ERROR_UNSUPPORTED,
                  format_text(path, " is quantised already: tensor ", tensor.name, " is ", name_of(tensor.dtype)),
                  "weights in F32, F16 or BF16", name_of(tensor.dtype));
  }
  return {};
}

}  // namespace finermoe

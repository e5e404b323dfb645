// The table of kernels for AMX: those of AVX-512, and matrix tiles where many vectors or queries are multiplied.
#include "cpu/kernels/tiles_amx.h"

namespace finermoe::amx {
namespace {

// Products of more vectors are faster by tiles. Q8 and Q4 keep the bits that a vector has alone up to this number,
// which docs/threading.md promises; BF16 has no such bits where a dot of pairs is slow.
constexpr size_t few_vectors = 2, few_vectors_of_blocks = 32;

Form fast_form(DType weights, size_t n, bool bf16_dots) {
  const bool is_block = weights == DType::q8 || weights == DType::q4;
  if (is_block ? n > few_vectors_of_blocks : weights == DType::bf16 && n > few_vectors) return Form::bf16;
  return avx512::fast_form(weights, n, bf16_dots);
}

}  // namespace

const Kernels kernels = {.large_tasks = true,
                         .widen = avx512::widen,
                         .round_to = avx512::round_to,
                         .rms_norm = avx512::rms_norm,
                         .silu_multiply = avx512::silu_multiply,
                         .rotate = avx512::rotate,
                         .quantize_activations = avx512::quantize_activations,
                         .fast_form = fast_form,
                         .matmul = matmul,
                         .attention = attention,
                         .matmul_scratch = matmul_scratch,
                         .attention_scratch = attention_scratch};

}  // namespace finermoe::amx

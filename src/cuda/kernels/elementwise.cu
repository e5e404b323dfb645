// Embeddings, norms, sums.
#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 256, n_warps = n_threads / warp_size;

__global__ void __launch_bounds__(n_threads) embed(const int32_t* tokens, Matrix table, float* out) {
  const unsigned row = blockIdx.x;
  for (unsigned c = 4 * threadIdx.x; c < table.columns; c += 4 * n_threads) {
    float four[4];
    load_weights(table, static_cast<uint32_t>(tokens[row]), c, four);
    for (unsigned i = 0; i < 4 && c + i < table.columns; i++) out[size_t{row} * table.columns + c + i] = four[i];
  }
}

__global__ void __launch_bounds__(n_threads) rms_norm(const float* x, Matrix weight, float eps, float* out) {
  __shared__ SharedArray<float, n_warps> parts;
  const float* const row = x + size_t{blockIdx.x} * weight.rows;
  float* const to = out + size_t{blockIdx.x} * weight.rows;
  float squares = 0;
  for (unsigned c = threadIdx.x; c < weight.rows; c += n_threads) squares = fmaf(row[c], row[c], squares);
  squares = warp_sum(squares);
  if (threadIdx.x % warp_size == 0) parts[threadIdx.x / warp_size] = squares;
  __syncthreads();
  squares = 0;
  for (unsigned warp = 0; warp < n_warps; warp++) squares += parts[warp];
  const float factor = 1 / sqrtf(squares / static_cast<float>(weight.rows) + eps);
  for (unsigned c = threadIdx.x; c < weight.rows; c += n_threads) {
    to[c] = row[c] * factor * load_number(weight.dtype, weight.data, c);
  }
}

__global__ void __launch_bounds__(n_threads) add(const float* x, uint64_t n, float* out) {
  const uint64_t i = uint64_t{blockIdx.x} * n_threads + threadIdx.x;
  if (i < n) out[i] += x[i];
}

__global__ void __launch_bounds__(n_threads) apply_sigmoid(uint32_t n, float* x) {
  const unsigned i = blockIdx.x * n_threads + threadIdx.x;
  if (i < n) x[i] = sigmoid(x[i]);
}

}  // namespace

int enqueue_embed(void* stream, const int32_t* tokens, const Matrix& table, uint32_t n, float* out) {
  return launch(stream, n, n_threads, embed, tokens, table, out);
}

int enqueue_rms_norm(void* stream, const float* x, const Matrix& weight, float eps, uint32_t n, float* out) {
  return launch(stream, n, n_threads, rms_norm, x, weight, eps, out);
}

int enqueue_add(void* stream, const float* x, uint64_t n, float* out) {
  return launch(stream, static_cast<unsigned>((n + n_threads - 1) / n_threads), n_threads, add, x, n, out);
}

int enqueue_sigmoid(void* stream, uint32_t n, float* x) {
  return launch(stream, ceil_div(n, n_threads), n_threads, apply_sigmoid, n, x);
}

}  // namespace finermoe::cuda

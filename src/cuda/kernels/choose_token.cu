// A token of a row of logits, as sampling/sampler.cc and distribution.cc choose it. Weights, and the sum for
// log-probabilities, have the same bits. Sums of weights are added up in another order: where that could make another
// token of it, the row is left to the host.
#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/rounded.cuh"
#include "cuda/kernels/shared_array.cuh"

#include "cuda/kernels.h"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 256, n_warps = n_threads / warp_size;
constexpr unsigned no_id = UINT32_MAX;
constexpr unsigned lanes_of_sum = 4;  // that sampling/sampler.cc adds up apart

// e^x for x <= 0, as in sampling/sampler.cc.
__device__ float exp_of_float(float below_zero) {
  using F = Rounded<float>;
  const F x = below_zero < -87.0f ? -87.0f : below_zero;
  const F shifted = x * 1.44269504f + 0x1.8p23f, n = shifted - 0x1.8p23f;
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return __uint_as_float(__float_as_uint(p.value) + (__float_as_uint(shifted.value) << 23));
}

// The same as in sampling/distribution.cc.
__device__ double exp_of_double(double below_zero) {
  using D = Rounded<double>;
  if (below_zero < -708) return 0;
  const D x = below_zero;
  const D shifted = x * 0x1.71547652b82fep0 + 0x1.8p52, n = shifted - 0x1.8p52;
  const D r = ((x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33) * 0.125;
  const D r2 = r * r;
  D p = ((r * (1.0 / 5040) + 1.0 / 720) * r2 + (r * (1.0 / 120) + 1.0 / 24)) * (r2 * r2) +
        ((r * (1.0 / 6) + 0.5) * r2 + (r + 1.0));
  p = p * p;
  p = p * p;
  p = p * p;
  return __longlong_as_double(__double_as_longlong(p.value) + (__double_as_longlong(shifted.value) << 52));
}

// An unnormalized probability.
__device__ double weight_of(float logit, float largest, double temperature) {
  using D = Rounded<double>;
  const D scaled = (D(static_cast<double>(logit)) - static_cast<double>(largest)) * (1.0 / temperature);
  return exp_of_double(static_cast<double>(static_cast<float>(scaled.value)));
}

// Of numbers of which none is NaN; every lane has it.
__device__ float largest_of(const float* numbers, unsigned n) {
  float largest = -INFINITY;
  for (unsigned i = threadIdx.x % warp_size; i < n; i += warp_size) largest = fmaxf(largest, numbers[i]);
  return warp_max(largest);
}

// Bits that order floats, for atomics; -0 is 0.
__device__ unsigned ordered_bits(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}
__device__ float from_ordered_bits(unsigned bits) {
  return __uint_as_float(bits >> 31 != 0 ? bits & 0x7fffffffu : ~bits);
}

// One row, and what is known of its runs of run_length logits.
struct Row {
  const float *logits, *maxima, *choosable_maxima;
  const double *sums, *weights;
  TokenChoice choice;
  unsigned n_runs, vocab, n_choosable;

  __device__ bool is_greedy() const { return choice.temperature == 0; }
  __device__ bool has_few() const { return n_choosable <= most_candidates; }
  // Whether the sum of all weights is needed, and there are too many for one block.
  __device__ bool needs_sum() const {
    return !is_greedy() && choice.top_k == 0 && !has_few() && (choice.top_p < 1 || choice.min_p == 0);
  }
  // Whether one number chooses among all of them.
  __device__ bool has_no_filter() const { return needs_sum() && choice.top_p == 1; }
};

__device__ Row row_of(const ChooseTokens& task, unsigned row) {
  const unsigned n_runs = task.n_runs();
  const size_t first = size_t{row} * n_runs;
  return {task.logits + size_t{row} * task.vocab,
          task.maxima + first,
          task.choosable_maxima + first,
          task.sums + first,
          task.weights + first,
          task.choices[row],
          n_runs,
          task.vocab,
          task.n_choosable};
}

// A warp finds the largest of a run, and the largest that can be chosen; NaN if one is NaN.
__global__ void __launch_bounds__(n_threads) find_maxima(ChooseTokens task) {
  const unsigned run = blockIdx.x * n_warps + threadIdx.x / warp_size, row = blockIdx.y;
  if (run >= task.n_runs()) return;
  const float* const logits = task.logits + size_t{row} * task.vocab;
  const unsigned end = (run + 1) * run_length < task.vocab ? (run + 1) * run_length : task.vocab;
  float largest = -INFINITY, choosable = -INFINITY;
  bool has_nan = false;
  for (unsigned i = run * run_length + threadIdx.x % warp_size; i < end; i += warp_size) {
    has_nan = has_nan || logits[i] != logits[i];
    largest = fmaxf(largest, logits[i]);
    if (i < task.n_choosable) choosable = fmaxf(choosable, logits[i]);
  }
  const bool any_nan = warp_max(has_nan ? 1.0f : 0.0f) != 0;
  largest = warp_max(largest);
  choosable = warp_max(choosable);
  if (threadIdx.x % warp_size != 0) return;
  task.maxima[size_t{row} * task.n_runs() + run] = any_nan ? NAN : largest;
  task.choosable_maxima[size_t{row} * task.n_runs() + run] = choosable;
}

// Four threads have the four chains of a run; what does not fill the last four is left out.
__global__ void __launch_bounds__(n_threads) sum_exponentials(ChooseTokens task) {
  const unsigned n_runs = task.n_runs(), row = blockIdx.y, lane = threadIdx.x % lanes_of_sum;
  const unsigned run = blockIdx.x * (n_threads / lanes_of_sum) + threadIdx.x / lanes_of_sum;
  const float* const logits = task.logits + size_t{row} * task.vocab;
  const float largest = largest_of(task.maxima + size_t{row} * n_runs, n_runs);
  const unsigned whole = task.vocab / lanes_of_sum * lanes_of_sum;
  const unsigned end = (run + 1) * run_length < whole ? (run + 1) * run_length : whole;
  Rounded<float> sum = 0.0f;
  for (unsigned i = run * run_length + lane; i < end; i += lanes_of_sum) {
    sum = sum + exp_of_float((Rounded<float>(logits[i]) - largest).value);
  }
  const unsigned first = threadIdx.x % warp_size - lane;
  Rounded<double> total = static_cast<double>(__shfl_sync(all_lanes, sum.value, first));
  for (unsigned i = 1; i < lanes_of_sum; i++) {
    total = total + static_cast<double>(__shfl_sync(all_lanes, sum.value, first + i));
  }
  if (lane == 0 && run < n_runs) task.sums[size_t{row} * n_runs + run] = total.value;
}

// A warp adds up the weights of a run, where their sum is needed.
__global__ void __launch_bounds__(n_threads) sum_weights(ChooseTokens task) {
  const Row row = row_of(task, blockIdx.y);
  if (!row.needs_sum()) return;
  const unsigned run = blockIdx.x * n_warps + threadIdx.x / warp_size;
  if (run >= row.n_runs) return;
  const float largest = largest_of(row.choosable_maxima, row.n_runs);
  const unsigned end = (run + 1) * run_length < row.n_choosable ? (run + 1) * run_length : row.n_choosable;
  double sum = 0;
  for (unsigned i = run * run_length + threadIdx.x % warp_size; i < end; i += warp_size) {
    sum += weight_of(row.logits[i], largest, row.choice.temperature);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % warp_size == 0) task.weights[size_t{blockIdx.y} * row.n_runs + run] = sum;
}

// What a block knows of its row. A candidate is a place in `ids`, ascending; its weight is negative once it is out.
struct Shared {
  SharedArray<unsigned, most_candidates> found, ids;  // as they are found, and in order
  SharedArray<float, most_candidates> logits;
  SharedArray<double, most_candidates> weights;
  SharedArray<unsigned, 1> n_found, threshold, first, is_unsure;
  SharedArray<double, 2> total;  // of the weights, and what comes before the first candidate
};

__device__ void leave_to_host(Shared& shared) { atomicMax(&shared.is_unsure[0], 1u); }

// Sums of n weights in two orders differ by less than this.
__device__ double margin_of(const Row& row, double total) { return 0x1p-51 * static_cast<double>(row.vocab) * total; }

// A logit that at least as many reach as can be wanted, found among the largest of each run; -infinity: all.
__device__ float find_threshold(const Row& row, float largest, Shared& shared) {
  if (row.is_greedy()) return largest;
  if (row.has_few()) return -INFINITY;
  const uint64_t wanted = row.choice.top_k != 0 ? row.choice.top_k : row.n_runs / 2;
  for (unsigned i = threadIdx.x; i < row.n_runs; i += n_threads) {
    unsigned n_larger = 0, n_equal = 0;
    for (unsigned j = 0; j < row.n_runs; j++) {
      n_larger += row.choosable_maxima[j] > row.choosable_maxima[i];
      n_equal += row.choosable_maxima[j] == row.choosable_maxima[i];
    }
    if (n_larger < wanted && wanted <= n_larger + n_equal) {
      atomicMin(&shared.threshold[0], ordered_bits(row.choosable_maxima[i]));
    }
  }
  __syncthreads();
  const unsigned bits = shared.threshold[0];
  return bits == UINT32_MAX ? -INFINITY : from_ordered_bits(bits);
}

// visit(id) for all that reach the threshold: a warp takes a run that has one.
template <class Visit>
__device__ void for_each_above(const Row& row, float threshold, const Visit& visit) {
  for (unsigned run = threadIdx.x / warp_size; run < row.n_runs; run += n_warps) {
    if (!(row.choosable_maxima[run] >= threshold)) continue;
    const unsigned end = (run + 1) * run_length < row.n_choosable ? (run + 1) * run_length : row.n_choosable;
    for (unsigned i = run * run_length + threadIdx.x % warp_size; i < end; i += warp_size) {
      if (row.logits[i] >= threshold) visit(i);
    }
  }
}

// Brings the candidates to shared memory, in ascending order. How many.
__device__ unsigned gather(const Row& row, float threshold, Shared& shared) {
  for_each_above(row, threshold, [&](unsigned id) {
    const unsigned place = atomicAdd(&shared.n_found[0], 1u);
    if (place < most_candidates) shared.found[place] = id;
  });
  __syncthreads();
  const unsigned n = shared.n_found[0];
  if (n > most_candidates) return n;
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    const unsigned id = shared.found[i];
    unsigned place = 0;
    for (unsigned j = 0; j < n; j++) place += shared.found[j] < id;
    shared.ids[place] = id;
    shared.logits[place] = row.logits[id];
  }
  __syncthreads();
  return n;
}

// Weights of the candidates, negative for those that are not among the k largest or tie with the last of them.
__device__ void keep_top_k(const Row& row, float largest, unsigned n, Shared& shared) {
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    const float logit = shared.logits[i];
    uint64_t n_larger = 0;
    for (unsigned j = 0; j < n; j++) n_larger += shared.logits[j] > logit;
    const bool is_kept = row.choice.top_k == 0 || n_larger < row.choice.top_k;
    shared.weights[i] = is_kept ? weight_of(logit, largest, row.choice.temperature) : -1.0;
  }
  __syncthreads();
}

// The sum of the candidates that are left, by one thread.
__device__ double total_of(unsigned n, Shared& shared) {
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (unsigned i = 0; i < n; i++) {
      const double weight = shared.weights[i];
      if (weight > 0) total += weight;
    }
    shared.total[0] = total;
  }
  __syncthreads();
  return shared.total[0];
}

// The likeliest whose weights reach p of `total`: those before which there is less.
__device__ void keep_top_p(const Row& row, unsigned n, double total, bool has_all, Shared& shared) {
  const double mass = row.choice.top_p * total, margin = margin_of(row, total), found = total_of(n, shared);
  if (!has_all && found < mass + margin) leave_to_host(shared);
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    const double weight = shared.weights[i];
    double before = 0;
    bool is_first = true;
    for (unsigned j = 0; j < n; j++) {
      const double other = shared.weights[j];
      if (other < weight || (other == weight && j >= i)) continue;
      before += other;
      is_first = false;
    }
    if (weight >= 0 && !is_first && fabs(before - mass) <= margin) leave_to_host(shared);
    shared.found[i] = weight >= 0 && (is_first || before < mass);
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    if (shared.found[i] == 0) shared.weights[i] = -1;
  }
  __syncthreads();
}

// Those at least p times as likely as the likeliest.
__device__ void keep_min_p(const Row& row, float largest, unsigned n, float threshold, Shared& shared) {
  const double temperature = row.choice.temperature;
  const double least = row.choice.min_p * weight_of(largest, largest, temperature);
  // What was not gathered is less likely than the threshold.
  const bool may_miss = row.choice.top_k == 0 && row.choice.top_p == 1 && threshold != -INFINITY;
  if (may_miss && weight_of(threshold, largest, temperature) >= 0.999 * least) leave_to_host(shared);
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    const double weight = shared.weights[i];
    if (weight < least) shared.weights[i] = -1;
  }
  __syncthreads();
}

// Where nothing filters: the run in which the cumulative weight exceeds the random number becomes the candidates. How
// many; total[1] is what comes before them.
__device__ unsigned choose_run(const Row& row, float largest, Shared& shared) {
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0, before = 0;
    for (unsigned run = 0; run < row.n_runs; run++) total += row.weights[run];
    unsigned chosen = 0;
    const double wanted = row.choice.random * total;
    while (chosen + 1 < row.n_runs && before + row.weights[chosen] <= wanted) before += row.weights[chosen++];
    shared.total[0] = total;
    shared.total[1] = before;
    shared.first[0] = chosen * run_length;
  }
  __syncthreads();
  const unsigned first = shared.first[0];
  const unsigned n = row.n_choosable <= first ? 0 : min(run_length, row.n_choosable - first);
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    shared.ids[i] = first + i;
    shared.weights[i] = weight_of(row.logits[first + i], largest, row.choice.temperature);
  }
  __syncthreads();
  return n;
}

// By one thread: the first candidate at which the cumulative weight exceeds u.
__device__ unsigned draw(const Row& row, unsigned n, double before, double total, Shared& shared) {
  const double wanted = row.choice.random * total, margin = margin_of(row, total);
  double sum = before;
  for (unsigned i = 0; i < n; i++) {
    const double weight = shared.weights[i];
    if (weight < 0) continue;
    const double next = sum + weight;
    if (wanted < next) {
      const bool is_sure = next - wanted > margin && (sum == 0 || wanted - sum > margin);
      return is_sure ? static_cast<unsigned>(shared.ids[i]) : no_id;
    }
    sum = next;
  }
  return no_id;
}

// The filters and the draw. Thread 0 has the result.
__device__ unsigned sample(const Row& row, float largest, Shared& shared) {
  if (row.has_no_filter()) {
    const unsigned n = choose_run(row, largest, shared);
    return threadIdx.x == 0 ? draw(row, n, shared.total[1], shared.total[0], shared) : no_id;
  }
  const float threshold = find_threshold(row, largest, shared);
  const unsigned n = gather(row, threshold, shared);
  if (n > most_candidates) return no_id;
  keep_top_k(row, largest, n, shared);
  if (row.choice.top_p < 1) {
    double total = 0;
    if (row.needs_sum()) {
      for (unsigned run = 0; run < row.n_runs; run++) total += row.weights[run];
    } else {
      total = total_of(n, shared);
    }
    keep_top_p(row, n, total, !row.needs_sum() || threshold == -INFINITY, shared);
  }
  if (row.choice.min_p > 0) keep_min_p(row, largest, n, threshold, shared);
  const double total = total_of(n, shared);
  return threadIdx.x == 0 && shared.is_unsure[0] == 0 ? draw(row, n, 0, total, shared) : no_id;
}

// The lowest id among the largest.
__device__ unsigned choose_largest(const Row& row, float largest, Shared& shared) {
  for_each_above(row, largest, [&](unsigned id) { atomicMin(&shared.first[0], id); });
  __syncthreads();
  return shared.first[0];
}

// The sum of exp(logit - largest), in the order of sampling/sampler.cc.
__device__ double sum_of_all(const Row& row, float largest) {
  Rounded<double> total = 0.0;
  for (unsigned run = 0; run < row.n_runs; run++) total = total + row.sums[run];
  for (unsigned i = row.vocab / lanes_of_sum * lanes_of_sum; i < row.vocab; i++) {
    total = total + static_cast<double>(exp_of_float((Rounded<float>(row.logits[i]) - largest).value));
  }
  return total.value;
}

// A block chooses for one row.
__global__ void __launch_bounds__(n_threads) choose_tokens(ChooseTokens task) {
  __shared__ Shared shared;
  const Row row = row_of(task, blockIdx.x);
  ChosenToken& out = task.out[blockIdx.x];
  if (threadIdx.x == 0) {
    shared.n_found[0] = shared.is_unsure[0] = 0;
    shared.threshold[0] = shared.first[0] = UINT32_MAX;
  }
  __syncthreads();
  for (unsigned run = threadIdx.x; run < row.n_runs; run += n_threads) {
    if (!(row.maxima[run] < INFINITY)) leave_to_host(shared);  // NaN, too
  }
  __syncthreads();
  const float largest = largest_of(row.maxima, row.n_runs), choosable = largest_of(row.choosable_maxima, row.n_runs);
  const bool is_finite = shared.is_unsure[0] == 0 && choosable != -INFINITY;
  unsigned id = no_id;
  if (is_finite) id = row.is_greedy() ? choose_largest(row, choosable, shared) : sample(row, choosable, shared);
  if (threadIdx.x != 0) return;
  out.id = static_cast<int32_t>(id);
  if (id == no_id) return;
  out.logit = row.logits[id];
  out.largest = largest;
  out.sum = sum_of_all(row, largest);
}

__global__ void __launch_bounds__(n_threads) begin_next_pass(NextPass task) {
  for (unsigned i = threadIdx.x; i < task.n_angles; i += n_threads) {
    task.cos[i] = task.next_cos[i];
    task.sin[i] = task.next_sin[i];
  }
  if (threadIdx.x != 0) return;
  ChosenToken chosen = *task.chosen;
  if (*task.not_finite >= 0) chosen.id = -1;
  *task.out = chosen;
  *task.token = chosen.id < 0 ? 0 : chosen.id;  // where nothing was chosen, what follows has no meaning
  *task.position += 1;
  *task.choice = *task.next_choice;
  *task.not_finite = -1;
}

}  // namespace

int enqueue_next_pass(void* stream, const NextPass& task) {
  return launch(stream, 1, n_threads, begin_next_pass, task);
}

int enqueue_choose_tokens(void* stream, const ChooseTokens& task) {
  const dim3 warps(ceil_div(task.n_runs(), n_warps), task.n);
  const dim3 quads(ceil_div(task.n_runs(), n_threads / lanes_of_sum), task.n);
  int code = launch(stream, warps, n_threads, find_maxima, task);
  if (code == 0) code = launch(stream, quads, n_threads, sum_exponentials, task);
  if (code == 0) code = launch(stream, warps, n_threads, sum_weights, task);
  return code == 0 ? launch(stream, task.n, n_threads, choose_tokens, task) : code;
}

}  // namespace finermoe::cuda

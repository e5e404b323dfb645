// The router's decision (docs/finermoe-layer.md, steps 2 to 5), in the order of backend/select_experts.cc, so that no
// tie and no rounding falls another way.
#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/shared_array.cuh"

#include "cuda/kernels.h"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 128;

__device__ bool is_finite(float x) { return fabsf(x) < INFINITY; }

// Step 3 for one group.
__device__ double score_of(const ChooseExperts& task, const float* logits, const float* group_logits, unsigned group) {
  if (group_logits != nullptr) return static_cast<double>(group_logits[group]);
  double sum = 0;
  for (unsigned i = 0; i < task.group_size; i++) sum += static_cast<double>(logits[group * task.group_size + i]);
  return sum;
}

// Steps 2 and 4: the T_I largest logits of a group, ascending by index.
__device__ void keep_largest(const ChooseExperts& task, const float* logits, unsigned group, int32_t* kept) {
  const unsigned begin = group * task.group_size, end = begin + task.group_size;
  unsigned n_kept = 0;
  // Ordered by falling logit, equal ones by index: a later expert passes only what is strictly smaller.
  for (unsigned expert = begin; expert < end; expert++) {
    unsigned place = n_kept;
    while (place > 0 && logits[expert] > logits[kept[place - 1]]) place--;
    if (n_kept < task.top_inter) {
      n_kept++;
    } else if (place == n_kept) {
      continue;
    }
    for (unsigned i = n_kept - 1; i > place; i--) kept[i] = kept[i - 1];
    kept[place] = static_cast<int32_t>(expert);
  }
  for (unsigned i = 1; i < n_kept; i++) {
    const int32_t expert = kept[i];
    unsigned place = i;
    for (; place > 0 && kept[place - 1] > expert; place--) kept[place] = kept[place - 1];
    kept[place] = expert;
  }
}

// Step 5: the sums in double, in ascending order of the experts.
__device__ void softmax_weights(const ChooseExperts& task, const float* logits, const float* exponentials,
                                float largest, const int32_t* experts, float* weights) {
  const unsigned k = task.n_components * task.top_inter, n_experts = task.n_groups * task.group_size;
  double sum = 0, kept = 0;
  if (task.softmax_over_all) {
    for (unsigned i = 0; i < n_experts; i++) sum += static_cast<double>(exponentials[i]);
  } else {
    largest = -INFINITY;
    for (unsigned i = 0; i < k; i++) largest = fmaxf(largest, logits[experts[i]]);
    for (unsigned i = 0; i < k; i++) sum += static_cast<double>(expf(logits[experts[i]] - largest));
  }
  for (unsigned i = 0; i < k; i++) {
    weights[i] = static_cast<float>(static_cast<double>(expf(logits[experts[i]] - largest)) / sum);
    kept += static_cast<double>(weights[i]);
  }
  if (!task.norm_topk_prob) return;
  for (unsigned i = 0; i < k; i++) weights[i] = static_cast<float>(static_cast<double>(weights[i]) / kept);
}

// The index of the first number that is not finite, of all threads; n where all are.
__device__ unsigned first_not_finite(const float* numbers, unsigned n, SharedArray<unsigned, 1>& found) {
  if (threadIdx.x == 0) found[0] = n;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < n; i += n_threads) {
    if (!is_finite(numbers[i])) atomicMin(&found[0], i);
  }
  __syncthreads();
  const unsigned first = found[0];
  __syncthreads();
  return first;
}

// A block decides for one row. One block at least on a multiprocessor: for more, nvcc would spill registers.
__global__ void __launch_bounds__(n_threads, 1) choose_experts(ChooseExperts task) {
  __shared__ SharedArray<unsigned, 1> found;
  __shared__ SharedArray<float, n_threads / warp_size> maxima;
  const unsigned row = blockIdx.x, thread = threadIdx.x, n_experts = task.n_groups * task.group_size;
  const unsigned groups_per_component = task.n_groups / task.n_components;
  const float* const logits = task.logits + size_t{row} * n_experts;
  const float* const group_logits =
      task.group_logits == nullptr ? nullptr : task.group_logits + size_t{row} * task.n_groups;
  double* const scores = task.group_scores + size_t{row} * task.n_groups;
  float* const exponentials = task.exponentials + size_t{row} * n_experts;
  int32_t* const experts = task.experts + size_t{row} * task.n_components * task.top_inter;

  unsigned wrong = first_not_finite(logits, n_experts, found);
  if (wrong == n_experts && group_logits != nullptr) {
    wrong += first_not_finite(group_logits, task.n_groups, found);
    if (wrong == n_experts + task.n_groups) wrong = UINT32_MAX;
  } else if (wrong == n_experts) {
    wrong = UINT32_MAX;
  }
  if (thread == 0 && wrong != UINT32_MAX && task.not_finite[row] < 0)
    task.not_finite[row] = static_cast<int32_t>(wrong);

  float largest = -INFINITY;
  if (task.softmax_over_all) {
    for (unsigned i = thread; i < n_experts; i += n_threads) largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    if (thread % warp_size == 0) maxima[thread / warp_size] = largest;
    __syncthreads();
    for (unsigned warp = 0; warp < n_threads / warp_size; warp++) largest = fmaxf(largest, maxima[warp]);
    for (unsigned i = thread; i < n_experts; i += n_threads) exponentials[i] = expf(logits[i] - largest);
  }
  for (unsigned group = thread; group < task.n_groups; group += n_threads) {
    scores[group] = score_of(task, logits, group_logits, group);
  }
  __syncthreads();
  for (unsigned component = thread; component < task.n_components; component += n_threads) {
    const unsigned first = component * groups_per_component;
    unsigned winner = first;
    for (unsigned group = first + 1; group < first + groups_per_component; group++) {
      if (scores[group] > scores[winner]) winner = group;
    }
    keep_largest(task, logits, winner, experts + component * task.top_inter);
    if (task.groups != nullptr) task.groups[size_t{row} * task.n_components + component] = static_cast<int32_t>(winner);
  }
  __syncthreads();
  if (thread == 0) {
    softmax_weights(task, logits, exponentials, largest, experts,
                    task.weights + size_t{row} * task.n_components * task.top_inter);
  }
}

}  // namespace

int enqueue_choose_experts(void* stream, const ChooseExperts& task) {
  return launch(stream, task.n, n_threads, choose_experts, task);
}

}  // namespace finermoe::cuda

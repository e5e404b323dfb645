#include "cuda/cuda_step.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "backend/select_experts.h"
#include "cuda/copy_queue.h"

namespace finermoe::cuda {
namespace {

uint32_t narrow(uint64_t value) { return static_cast<uint32_t>(value); }

int enqueue_copy_to_device(void* stream, const Driver* driver, const void* to, const void* from, size_t bytes) {
  return driver->copy_to_device(reinterpret_cast<uintptr_t>(to), from, bytes, stream);
}
int enqueue_copy_to_host(void* stream, const Driver* driver, void* to, const void* from, size_t bytes) {
  return driver->copy_to_host(to, reinterpret_cast<uintptr_t>(from), bytes, stream);
}

}  // namespace

Matrix matrix_of(const WeightView& view) {
  return {view.data.address(), view.dtype, narrow(view.rows), narrow(view.columns)};
}

CudaStep::CudaStep(std::shared_ptr<const Context> context, const Config& config, size_t n_rows, uint64_t n_positions,
                   StepMemory memory, Stream stream, Event copied, Graphs graphs)
    : Step(n_rows, n_positions),
      context_(std::move(context)),
      router_(config.router),
      head_size_(config.head_size),
      vocab_size_(config.vocab_size),
      queries_per_key_(narrow(config.n_heads / config.n_kv_heads)),
      rope_(config.rope),
      memory_(std::move(memory)),
      stream_(std::move(stream)),
      copied_(std::move(copied)),
      graphs_(std::move(graphs)),
      frequencies_(config.head_size / 2),
      tables_(memory_.n_tables) {
  activations_ = memory_.activations;
  rope_.frequencies(head_size_, frequencies_);
}

Result<std::unique_ptr<CudaStep>> CudaStep::make(const std::shared_ptr<const Context>& context, const Config& config,
                                                 size_t n_rows, uint64_t n_positions,
                                                 std::shared_ptr<MemoryAccount> account) {
  if (config.head_size > most_head_size) {
    return Status(
        FINERMOE_ERROR_UNSUPPORTED,
        format_text("CUDA: head size ", config.head_size, " is not supported; the largest is ", most_head_size),
        format_text("up to ", most_head_size), format_text(config.head_size));
  }
  FM_ASSIGN(auto memory, StepMemory::make(context, config, n_rows, n_positions, account));
  FM_ASSIGN(Stream stream, Stream::make(context));
  FM_ASSIGN(Event copied, Event::make(context));
  FM_ASSIGN(Graphs graphs, Graphs::make(context, config, std::move(account)));
  return std::unique_ptr<CudaStep>(new CudaStep(context, config, n_rows, n_positions, std::move(memory),
                                                std::move(stream), std::move(copied), std::move(graphs)));
}

uint64_t CudaStep::bytes(const Config& config, size_t n_rows, uint64_t n_positions) {
  return StepMemory::bytes(config, n_rows, n_positions) + Graphs::bytes(config);
}

// Cuts the rows into blocks of one session each. How a block divides its positions depends on all of its rows: a row
// that is to be as if alone has one of its own.
void CudaStep::put_attention_rows(const RaggedBatch& batch) {
  const size_t fitting = (attends_on_tensors() ? tensor_queries : attention_queries) / queries_per_key_;
  const size_t most = batch.as_alone ? 1 : std::max<size_t>(1, fitting);
  n_attention_blocks_ = 0;
  for (size_t begin = 0, end; begin < n_; begin = end) {
    end = begin + 1;
    while (end < n_ && end - begin < most && batch.sessions[end] == batch.sessions[begin]) end++;
    host_pass_.attention_rows[n_attention_blocks_++] = {narrow(begin), narrow(end - begin)};
  }
}

Status CudaStep::begin(const RaggedBatch& batch, Precision precision) {
  FM_TRY(batch.check_ids(vocab_size_));
  if (code_ != success) std::fill(tables_.begin(), tables_.end(), Table{});  // not all that was enqueued was copied
  for (Table& table : tables_) table.is_used = false;
  code_ = success;
  n_ = batch.n();
  n_passes_ = batch.n_passes;
  pass_index_ = 0;
  // A pass of few rows is the same at either precision. One without rows leaves it to each operation.
  const bool has_many = n_ == 0 || n_ > most_few_rows;
  on_tensor_cores_ = has_many && precision == Precision::fast && context_->has_tensor_cores();
  graphs_.forget_commands();
  is_listing_ = n_ > 0 && n_ <= most_few_rows;
  downloads_.clear();
  n_staged_ = 0;
  put_pass(batch);
  if (n_ > 0) {
    enqueue(enqueue_copy_to_device, &context_->driver(), pass_.tokens, host_pass_.tokens, pass_.bytes);
  } else {
    enqueue(enqueue_copy_to_device, &context_->driver(), pass_.not_finite, host_pass_.not_finite,
            n_rows() * sizeof(int32_t));
  }
  return {};
}

void CudaStep::put_pass(const RaggedBatch& batch) {
  const size_t n = n_ > 0 ? n_ : n_rows();  // without rows, operations say how many they have
  pass_ = PassArrays(memory_.pass, n, head_size_, n_passes_);
  host_pass_ = PassArrays(memory_.pass_on_host, n, head_size_, n_passes_);
  std::copy(batch.tokens.begin(), batch.tokens.end(), host_pass_.tokens);
  std::copy(batch.positions.begin(), batch.positions.end(), host_pass_.positions);
  std::fill_n(host_pass_.not_finite, n, -1);
  rope_.rotations(frequencies_, batch.positions, host_pass_.cos, host_pass_.sin);
  std::array<uint32_t, most_passes - 1> next_positions;
  for (size_t i = 1; i < n_passes_; i++) next_positions[i - 1] = batch.positions[0] + narrow(i);
  rope_.rotations(frequencies_, std::span(next_positions).first(n_passes_ - 1), host_pass_.next_cos,
                  host_pass_.next_sin);
  for (size_t row = 0; row < n_ && !batch.caches.empty(); row++) {
    host_pass_.caches[row] = static_cast<const CudaKvCache*>(batch.caches[batch.sessions[row]])->view();
  }
  put_attention_rows(batch);
}

void CudaStep::launch_list() {
  is_listing_ = false;
  call_now([&](StreamHandle stream) { return graphs_.launch(stream); });
}

void CudaStep::embed(const WeightView& table, DevicePtr<float> out) {
  if (n_ == 0) return;
  enqueue(enqueue_embed, pass_.tokens, matrix_of(table), narrow(n_), out.address());
}

void CudaStep::rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n,
                        DevicePtr<float> out) {
  if (n == 0) return;
  enqueue(enqueue_rms_norm, x.address(), matrix_of(weight), static_cast<float>(eps), narrow(n), out.address());
}

void CudaStep::qkv(DevicePtr<const float> x, const QkvWeights& weights, const AttentionShape& shape, uint64_t layer,
                   DevicePtr<float> q_out) {
  if (n_ == 0) return;
  const DType operand = operand_type(weights.q.dtype);
  const bool is_rounded = on_tensor_cores_ && operand != DType::f32 && operand_type(weights.k.dtype) == operand &&
                          operand_type(weights.v.dtype) == operand;
  const auto task_of = [&](const WeightView& weight, float* out) {
    return Linear{nullptr, matrix_of(weight), narrow(n_), false, false, memory_.operands, out};
  };
  if (is_rounded) {
    round(x.address(), n_, weights.q.columns, operand);
    const Linear tasks[] = {task_of(weights.q, q_out.address()), task_of(weights.k, memory_.k),
                            task_of(weights.v, memory_.v)};
    multiply_rounded(tasks);
  } else {
    multiply(x.address(), weights.q, n_, false, false, q_out.address());
    multiply(x.address(), weights.k, n_, false, false, memory_.k);
    multiply(x.address(), weights.v, n_, false, false, memory_.v);
  }
  const StoreKv task{.q = q_out.address(),
                     .k = memory_.k,
                     .v = memory_.v,
                     .q_bias = matrix_of(weights.q_bias),
                     .k_bias = matrix_of(weights.k_bias),
                     .v_bias = matrix_of(weights.v_bias),
                     .cos = pass_.cos,
                     .sin = pass_.sin,
                     .positions = pass_.positions,
                     .caches = pass_.caches,
                     .n = narrow(n_),
                     .n_heads = narrow(shape.n_heads),
                     .n_kv_heads = narrow(shape.n_kv_heads),
                     .head_size = narrow(shape.head_size),
                     .layer = narrow(layer)};
  enqueue(enqueue_store_kv, task);
}

void CudaStep::attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) {
  if (n_ == 0) return;
  const uint32_t window = narrow(std::min<uint64_t>(shape.window, UINT32_MAX / 2));
  uint32_t n_splits = 1;  // rounded up, so that a pass differs from the one before it only now and then
  for (size_t row = 0; row < n_ && n_ <= most_split_rows; row++) {
    const uint32_t n_positions = host_pass_.positions[row] + narrow(pass_index_) + 1;
    // A block's other rows see at most that many positions more.
    const uint32_t seen = window == 0 ? n_positions : std::min(n_positions, window + attention_queries);
    n_splits = std::max(n_splits, splits_of(seen));
  }
  const Attend task{.q = q.address(),
                    .caches = pass_.caches,
                    .positions = pass_.positions,
                    .rows = pass_.attention_rows,
                    .n_rows = narrow(n_),
                    .n_blocks = n_attention_blocks_,
                    .n_heads = narrow(shape.n_heads),
                    .n_kv_heads = narrow(shape.n_kv_heads),
                    .head_size = narrow(shape.head_size),
                    .layer = narrow(layer),
                    .window = window,
                    .most_splits = std::min(std::bit_ceil(n_splits), memory_.n_splits),
                    .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_size)),
                    .partial_out = memory_.partial_out,
                    .partial_max = memory_.partial_max,
                    .partial_sum = memory_.partial_sum,
                    .out = out.address()};
  enqueue(attends_on_tensors() ? enqueue_tensor_attention : enqueue_attention, task);
}

void CudaStep::multiply(const float* x, const WeightView& weight, size_t n, bool accumulate, bool batch_invariant,
                        float* out) {
  const Linear task{.x = x,
                    .weight = matrix_of(weight),
                    .n = narrow(n),
                    .accumulate = accumulate,
                    .batch_invariant = batch_invariant,
                    .operands = on_tensor_cores_ ? memory_.operands : nullptr,
                    .out = out};
  if (task.operands == nullptr || batch_invariant || !is_for_blas(task)) {
    enqueue(enqueue_linear, task);
    return;
  }
  round(x, n, weight.columns, operand_type(weight.dtype));
  multiply_rounded({&task, 1});
}

void CudaStep::round(const float* x, size_t n, uint64_t columns, DType type) {
  enqueue(enqueue_round, x, narrow(n), narrow(columns), type, memory_.operands);
}

// Never in a pass that lists its calls: such a pass has few rows.
void CudaStep::multiply_rounded(std::span<const Linear> tasks) {
  Linear others[most_products];
  uint32_t n_others = 0;
  for (const Linear& task : tasks) {
    const BlasLibrary* const blas = memory_.workspace != nullptr && is_for_blas(task) ? context_->blas() : nullptr;
    bool is_done = false;
    if (blas != nullptr) {
      call_now([&](StreamHandle s) {
        is_done = blas_products_.multiply(*blas, s, task, memory_.workspace);
        return success;
      });
    }
    if (!is_done) others[n_others++] = task;
  }
  if (n_others > 0) call_now([&](StreamHandle s) { return enqueue_rounded_linear(s, others, n_others); });
}

void CudaStep::linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
                      DevicePtr<float> out) {
  if (n > 0) multiply(x.address(), weight, n, accumulate, false, out.address());
}

void CudaStep::route(DevicePtr<const float> x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                     const Route& route) {
  if (n == 0) return;
  multiply(x.address(), weights.gate, n, false, true, route.logits.address());
  if (shape.separate) multiply(x.address(), weights.concat_gate, n, false, true, memory_.group_logits);
  const ChooseExperts task{.n_components = narrow(shape.granularity_output),
                           .n_groups = narrow(shape.n_groups()),
                           .group_size = narrow(shape.group_size()),
                           .top_inter = narrow(shape.top_inter),
                           .softmax_over_all = shape.softmax_over_all,
                           .norm_topk_prob = shape.norm_topk_prob,
                           .logits = route.logits.address(),
                           .group_logits = shape.separate ? memory_.group_logits : nullptr,
                           .group_scores = memory_.group_scores,
                           .exponentials = memory_.exponentials,
                           .experts = route.experts.address(),
                           .weights = route.weights.address(),
                           .groups = route.groups.address(),
                           .not_finite = pass_.not_finite,
                           .n = narrow(n)};
  enqueue(enqueue_choose_experts, task);
}

void CudaStep::add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) {
  if (n_values == 0) return;
  enqueue(enqueue_add, x.address(), n_values, out.address());
}

void CudaStep::logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) {
  const bool is_whole = memory_.n_logits >= head.rows;  // rows of logits, otherwise parts of one row
  const size_t at_once = is_whole ? memory_.n_logits / head.rows : 1;
  const uint64_t part = is_whole ? head.rows : memory_.n_logits / panel_rows * panel_rows;
  for (size_t row = 0; row < n; row += at_once) {
    const size_t count = std::min(at_once, n - row);
    for (uint64_t begin = 0; begin < head.rows; begin += part) {
      WeightView rows = head;
      rows.rows = std::min(part, head.rows - begin);
      rows.data = head.data + (is_blocked(head.dtype) ? matrix_bytes(head.dtype, begin, head.columns)
                                                      : begin * head.columns * size_of(head.dtype));
      linear(x + row * head.columns, rows, count, false, DevicePtr(memory_.logits));
      Step::download(DevicePtr<const float>(memory_.logits),
                     std::span(out + row * head.rows + begin, count * rows.rows));
    }
  }
}

// The choices come to the device with the rest of the pass, or, if that is copied already, by themselves. They are
// written once, in the first of several passes, before anything of it is launched or after all of it is copied.
bool CudaStep::choose(DevicePtr<const float> x, const WeightView& head, size_t n, uint64_t n_choosable,
                      std::span<const TokenChoice> choices, ChosenToken* out) {
  if (memory_.n_logits < head.rows) return false;  // they come in parts
  const auto is_covered = [&](const TokenChoice& choice) {
    const bool has_few = n_choosable <= most_candidates || choice.top_k <= head.rows / run_length / 2;
    return choice.temperature == 0 || (has_few && std::isfinite(1 / choice.temperature));
  };
  if (!std::all_of(choices.begin(), choices.end(), is_covered)) return false;
  if (pass_index_ == 0) put_choices(choices.first(n), choices.subspan(n), head.rows);
  const size_t at_once = std::min<size_t>(memory_.n_logits / head.rows, most_few_rows);
  for (size_t row = 0; row < n; row += at_once) {
    const size_t count = std::min(at_once, n - row);
    linear(x + row * head.columns, head, count, false, DevicePtr(memory_.logits));
    const ChooseTokens task{.logits = memory_.logits,
                            .choices = pass_.choices + row,
                            .maxima = memory_.maxima,
                            .choosable_maxima = memory_.choosable_maxima,
                            .sums = memory_.sums,
                            .weights = memory_.weights,
                            .out = memory_.chosen + row,
                            .n = narrow(count),
                            .vocab = narrow(head.rows),
                            .n_choosable = narrow(n_choosable)};
    enqueue(enqueue_choose_tokens, task);
  }
  if (pass_index_ + 1 < n_passes_) return true;
  if (n_passes_ > 1) {
    launch_list();  // so that it is that of the passes before
    Step::download(DevicePtr<const ChosenToken>(memory_.taken), std::span(out, n_passes_ - 1));
  }
  Step::download(DevicePtr<const ChosenToken>(memory_.chosen), std::span(out + n_passes_ - 1, n));
  return true;
}

void CudaStep::put_choices(std::span<const TokenChoice> choices, std::span<const TokenChoice> next,
                           uint64_t vocab_size) {
  const auto put = [&](std::span<const TokenChoice> from, TokenChoice* to, const TokenChoice* on_device) {
    for (size_t i = 0; i < from.size(); i++) {
      to[i] = from[i];
      if (to[i].top_k >= vocab_size) to[i].top_k = 0;
    }
    if (is_listing_ || from.empty()) return;
    enqueue(enqueue_copy_to_device, &context_->driver(), on_device, to, from.size_bytes());
  };
  put(choices, host_pass_.choices, pass_.choices);
  put(next, host_pass_.next_choices, pass_.next_choices);
}

// The commands of a pass are listed apart: but for the first one they are the same in each.
void CudaStep::next_pass() {
  if (is_listing_) launch_list();
  const size_t n_angles = head_size_ / 2;
  const NextPass task{.chosen = memory_.chosen,
                      .next_cos = pass_.next_cos + pass_index_ * n_angles,
                      .next_sin = pass_.next_sin + pass_index_ * n_angles,
                      .next_choice = pass_.next_choices + pass_index_,
                      .token = pass_.tokens,
                      .position = pass_.positions,
                      .cos = pass_.cos,
                      .sin = pass_.sin,
                      .choice = pass_.choices,
                      .not_finite = pass_.not_finite,
                      .out = memory_.taken + pass_index_,
                      .n_angles = narrow(n_angles)};
  enqueue(enqueue_next_pass, task);
  pass_index_++;
  is_listing_ = true;
}

void CudaStep::upload(std::span<const std::byte> from, DevicePtr<std::byte> to) {
  if (from.empty()) return;
  if (is_listing_) launch_list();  // `from` may change as soon as this returns
  enqueue(enqueue_copy_to_device, &context_->driver(), to.address(), from.data(), from.size());
}

void CudaStep::download(DevicePtr<const std::byte> from, std::span<std::byte> to) {
  if (to.empty()) return;
  if (is_listing_ && n_staged_ + to.size() > memory_.staging_bytes) launch_list();
  std::byte* place = to.data();
  if (is_listing_) {
    place = memory_.staging + n_staged_;
    n_staged_ += to.size();
    downloads_.push_back({place, to});
  }
  enqueue(enqueue_copy_to_host, &context_->driver(), place, from.address(), to.size());
}

void CudaStep::wait_for(const CopyQueue& copies) {
  if (is_listing_) launch_list();
  const auto& queue = static_cast<const CudaCopyQueue&>(copies);
  call_now([&](StreamHandle stream) { return queue.make_wait(stream, copied_); });
}

Status CudaStep::wait() {
  const size_t n = n_ > 0 ? n_ : n_rows();
  enqueue(enqueue_copy_to_host, &context_->driver(), host_pass_.not_finite, pass_.not_finite, n * sizeof(int32_t));
  if (is_listing_) launch_list();
  call_now([&](StreamHandle stream) { return context_->driver().wait_for_stream(stream); });
  FM_TRY(context_->status(code_, "a pass"));
  for (const Download& download : downloads_) std::copy_n(download.from, download.to.size(), download.to.begin());
  downloads_.clear();
  return {};
}

Status CudaStep::row_error(size_t row) const {
  const int32_t logit = host_pass_.not_finite[row];
  return logit < 0 ? Status() : not_finite(router_, row, logit);
}

void CudaStep::end() noexcept {
  context_->with([&] { return context_->driver().wait_for_stream(stream_.handle()); });
}

}  // namespace finermoe::cuda

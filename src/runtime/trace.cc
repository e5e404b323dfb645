#include "runtime/trace.h"

#include <algorithm>
#include <cmath>

namespace finermoe {

Result<std::shared_ptr<Trace>> Trace::create(const Config& config, uint32_t what,
                                             std::shared_ptr<MemoryAccount> account) {
  if (!config.is_moe()) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, "a dense model has no router to trace", "a model with MoE layers",
                  config.model_type_name());
  }
  std::shared_ptr<Trace> trace(new Trace);
  trace->what_ = what;
  trace->shape_ = config.router;
  for (size_t layer = 0; layer < config.n_layers; layer++) {
    if (config.is_moe_layer[layer]) trace->layer_indices_.push_back(layer);
  }
  const size_t n_experts = config.router.n_experts();
  if (what & FINERMOE_TRACE_USAGE) {
    const uint64_t bytes = trace->layer_indices_.size() * n_experts * 4 * sizeof(uint64_t);
    FM_TRY(account->reserve(bytes, "the counters of a trace"));
    trace->reserved_ = bytes;
  }
  trace->account_ = std::move(account);
  trace->recorded_.resize(trace->layer_indices_.size());
  if (what & FINERMOE_TRACE_USAGE) {
    for (Layer& layer : trace->recorded_) {
      layer.usage.resize(n_experts);
      layer.probability.resize(n_experts);
      layer.step_usage.resize(n_experts);
      layer.step_probability.resize(n_experts);
    }
  }
  return trace;
}

Trace::~Trace() {
  if (account_) account_->release(reserved_);
}

uint64_t Trace::bytes_per_token() const {
  uint64_t elements = 0;
  if (what_ & FINERMOE_TRACE_ROUTES) elements += 2 * shape_.n_experts_per_token() + shape_.granularity_output;
  if (what_ & FINERMOE_TRACE_LOGITS) elements += shape_.n_experts();
  return elements * 4 * layer_indices_.size() + (records_rows() ? sizeof(size_t) : 0);
}

Status Trace::begin(size_t position, size_t n) {
  const size_t tokens = n_tokens_ + n;
  const size_t k = shape_.n_experts_per_token();
  auto room = [&](auto& values, size_t count) {
    if (values.capacity() < count) values.reserve(std::max(count, values.capacity() * 2));
  };
  for (Layer& layer : recorded_) {
    if (what_ & FINERMOE_TRACE_ROUTES) {
      room(layer.experts, tokens * k);
      room(layer.weights, tokens * k);
      room(layer.groups, tokens * shape_.granularity_output);
    }
    if (what_ & FINERMOE_TRACE_LOGITS) room(layer.logits, tokens * shape_.n_experts());
  }
  if (records_rows()) {
    room(positions_, tokens);
    const uint64_t bytes = n * bytes_per_token();
    FM_TRY(account_->reserve(bytes, "a trace"));
    reserved_ += bytes;
    for (size_t i = 0; i < n; i++) positions_.push_back(position + i);
  }
  n_step_ = n;
  return {};
}

void Trace::record(size_t moe_layer, const HostRoute& route, size_t first, size_t n) {
  Layer& layer = recorded_[moe_layer];
  const size_t k = shape_.n_experts_per_token(), g = shape_.granularity_output, n_experts = shape_.n_experts();
  auto append = [&](auto& values, const auto* rows, size_t width) {
    values.insert(values.end(), rows + first * width, rows + (first + n) * width);
  };
  if (what_ & FINERMOE_TRACE_ROUTES) {
    append(layer.experts, route.experts, k);
    append(layer.weights, route.weights, k);
    append(layer.groups, route.groups, g);
  }
  if (what_ & FINERMOE_TRACE_LOGITS) append(layer.logits, route.logits, n_experts);
  if ((what_ & FINERMOE_TRACE_USAGE) == 0) return;
  for (size_t row = first; row < first + n; row++) {
    for (size_t i = 0; i < k; i++) layer.step_usage[static_cast<size_t>(route.experts[row * k + i])]++;
    const float* logits = route.logits + row * n_experts;
    const double largest = *std::max_element(logits, logits + n_experts);
    double sum = 0;
    for (size_t e = 0; e < n_experts; e++) sum += std::exp(logits[e] - largest);
    for (size_t e = 0; e < n_experts; e++) layer.step_probability[e] += std::exp(logits[e] - largest) / sum;
  }
}

void Trace::forget_step() {
  for (Layer& layer : recorded_) {
    std::fill(layer.step_usage.begin(), layer.step_usage.end(), 0);
    std::fill(layer.step_probability.begin(), layer.step_probability.end(), 0);
  }
  n_step_ = 0;
}

void Trace::commit() {
  for (Layer& layer : recorded_) {
    for (size_t e = 0; e < layer.usage.size(); e++) {
      layer.usage[e] += layer.step_usage[e];
      layer.probability[e] += layer.step_probability[e];
    }
  }
  n_tokens_ += n_step_;
  forget_step();
}

void Trace::roll_back() {
  for (Layer& layer : recorded_) {
    const size_t k = shape_.n_experts_per_token();
    if (what_ & FINERMOE_TRACE_ROUTES) {
      layer.experts.resize(n_tokens_ * k);
      layer.weights.resize(n_tokens_ * k);
      layer.groups.resize(n_tokens_ * shape_.granularity_output);
    }
    if (what_ & FINERMOE_TRACE_LOGITS) layer.logits.resize(n_tokens_ * shape_.n_experts());
  }
  if (records_rows()) positions_.resize(n_tokens_);
  const uint64_t bytes = n_step_ * bytes_per_token();
  account_->release(bytes);
  reserved_ -= bytes;
  forget_step();
}

void Trace::clear() {
  const uint64_t bytes = n_tokens_ * bytes_per_token();
  n_tokens_ = 0;
  positions_ = {};
  for (Layer& layer : recorded_) {
    layer.experts = {};
    layer.weights = {};
    layer.groups = {};
    layer.logits = {};
    std::fill(layer.usage.begin(), layer.usage.end(), 0);
    std::fill(layer.probability.begin(), layer.probability.end(), 0);
  }
  account_->release(bytes);
  reserved_ -= bytes;
}

}  // namespace finermoe

// A session: a sequence of tokens, its KV cache, and the logits of its last append.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/loaded_model.h"
#include "runtime/trace.h"
#include "runtime/use.h"

namespace finermoe {

struct SessionOptions {
  uint64_t context_length = 0;  // tokens; 0: the smaller of max_positions and default_context
  DType kv_dtype = DType::f32;
  Precision precision = Precision::exact;
  size_t chunk = 0;   // rows of one prefill pass; 0: default_chunk
  Progress progress;  // phase "prefill", in tokens; its cancel flag is not used

  static constexpr uint64_t default_context = 4096;
  static constexpr size_t default_chunk = 512;
  // The same with every 0 replaced; CONTEXT_LENGTH if the model has fewer positions.
  Result<SessionOptions> resolved(const Config& config) const;
};

// Bytes of one session's cache; UINT64_MAX where they are more than that.
uint64_t kv_cache_bytes(const Config& config, uint64_t context_length, DType dtype);

// The caller of every function holds `use` (class Use), except where a function says otherwise.
class Session {
 public:
  static Result<std::shared_ptr<Session>> create(std::shared_ptr<LoadedModel> model, const SessionOptions& options);

  UseState use;

  // Appends and computes in chunks; keeps the logits of `logit_rows`, ascending indices into ids.
  Status append(std::span<const int32_t> ids, std::span<const size_t> logit_rows, const CancelFlag* cancel);
  // Row i of the logits kept: [vocab].
  std::span<const float> logits(size_t row) const;
  size_t n_logits() const { return n_logits_; }

  Status truncate(size_t length);
  Result<std::shared_ptr<Session>> fork() const;
  Status save(const std::string& path) const;
  Status restore(const std::string& path);

  const std::shared_ptr<LoadedModel>& model() const { return model_; }
  const SessionOptions& options() const { return options_; }  // resolved
  const std::vector<int32_t>& tokens() const { return tokens_; }
  size_t length() const { return tokens_.size(); }
  uint64_t capacity() const { return options_.context_length; }
  uint64_t kv_bytes() const { return cache_.size(); }
  KvCacheView cache() const { return {cache_.data(), options_.kv_dtype, options_.context_length}; }
  std::shared_ptr<Trace> trace;  // null: nothing is recorded

  // Room for n more tokens, so that extend() cannot fail.
  void reserve(size_t n);
  // After a step computed these tokens at the end of the cache.
  void extend(std::span<const int32_t> ids) { tokens_.insert(tokens_.end(), ids.begin(), ids.end()); }
  // Whether so many more tokens fit behind the first n_before: CONTEXT_LENGTH. Asked before anything is copied or read
  // that is there only because the caller says so.
  Status check_room(size_t n_more, size_t n_before) const;
  // Whether ids can stand there: CONTEXT_LENGTH, TOKEN_OUT_OF_RANGE
  Status check_ids(std::span<const int32_t> ids, size_t n_before) const;

 private:
  struct Undo;
  Session() = default;
  uint64_t logits_bytes(size_t n_rows) const { return n_rows * model_->config().vocab_size * sizeof(float); }
  void forget_logits();
  std::shared_ptr<LoadedModel> model_;
  SessionOptions options_;
  std::vector<int32_t> tokens_;
  Buffer cache_;
  Buffer logits_;  // [max(n_logits_, 1), vocab]
  size_t n_logits_ = 0;
};

}  // namespace finermoe

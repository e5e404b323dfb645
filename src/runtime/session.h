// A session: a sequence of tokens, the KV cache of those that are computed, and the rows kept by the last append.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/exclusive_use.h"
#include "runtime/loaded_model.h"
#include "runtime/stop_signals.h"
#include "runtime/trace.h"

namespace finermoe {

enum class Hidden : int32_t { none = FINERMOE_HIDDEN_NONE, keep = FINERMOE_HIDDEN_KEEP, only = FINERMOE_HIDDEN_ONLY };

struct SessionOptions {
  uint64_t context_length = 0;  // tokens; 0: the smaller of max_positions and default_context
  DType kv_dtype = DType::f32;
  Precision precision = Precision::exact;
  size_t chunk = 0;  // rows of one prefill pass; 0: default_chunk
  Hidden hidden = Hidden::none;
  Progress progress;  // phase "prefill", in tokens; its cancel flag is not used

  static constexpr uint64_t default_context = 4096;
  static constexpr size_t default_chunk = 512;
  // The same with every 0 replaced; CONTEXT_LENGTH if the model has fewer positions.
  Result<SessionOptions> resolved(const Config& config) const;
};

// The caller of every function must hold `use` (class ExclusiveUse), unless noted otherwise.
class Session {
 public:
  static Result<std::shared_ptr<Session>> create(std::shared_ptr<LoadedModel> model, const SessionOptions& options);
  // `stop` ends the wait for scratch that others use.
  static Result<std::shared_ptr<Session>> create(std::shared_ptr<LoadedModel> model, const SessionOptions& options,
                                                 const StopSignals& stop);

  UseState use;
  ~Session() { release_trace(); }

  // Appends and computes; keeps what the options say for `rows`, ascending indices into ids.
  Status append(std::span<const int32_t> ids, std::span<const size_t> rows, const CancelFlag* cancel);
  // A kept row: [vocab] and [h].
  std::span<const float> logits(size_t row) const;
  std::span<const float> hidden(size_t row) const;
  size_t n_logits() const { return n_logits_; }
  size_t n_hidden() const { return n_hidden_; }
  // Appends and computes. logprobs, likeliest [ids.size()] out: of each id given all tokens before it, and the
  // likeliest token in its place; NaN and -1 if nothing comes before it. On error the session holds what it held
  // before.
  Status score(std::span<const int32_t> ids, const CancelFlag* cancel, std::span<float> logprobs,
               std::span<int32_t> likeliest);

  Status truncate(size_t length);
  // The length of the longest common prefix with `ids`.
  size_t common_prefix(std::span<const int32_t> ids) const;
  // Keeps that prefix, and returns its length.
  size_t keep_prefix(std::span<const int32_t> ids);
  // Removes [begin, end), and moves what follows down.
  Status remove(size_t begin, size_t end);
  Status set_context_length(uint64_t n_tokens);  // 0: the default
  void set_progress(const Progress& progress) { options_.progress = asked_.progress = progress; }
  // These first compute what is not computed yet, except for saved_bytes().
  Result<std::shared_ptr<Session>> fork();
  Status save(const std::string& path);
  uint64_t saved_bytes() const;
  Status save(std::span<std::byte> out);  // [saved_bytes()]
  Status restore(const std::string& path);
  Status restore(std::span<const std::byte> saved);

  const std::shared_ptr<LoadedModel>& model() const { return model_; }
  const SessionOptions& options() const { return options_; }  // resolved
  Precision precision() const { return precision_; }          // constant: may be called without holding its use
  const std::vector<int32_t>& tokens() const { return tokens_; }
  size_t length() const { return tokens_.size(); }
  uint64_t capacity() const { return options_.context_length; }
  KvCache& cache() const { return *cache_; }
  // Where to record what is computed; null: nowhere. STATE for a trace that another session has.
  Status set_trace(std::shared_ptr<Trace> trace);
  const std::shared_ptr<Trace>& trace() const { return trace_; }
  // A session on another model that reads this one's text along, for drafts; it stays for the next request. Or null.
  const std::shared_ptr<Session>& follower() const { return follower_; }
  void set_follower(std::shared_ptr<Session> follower) { follower_ = std::move(follower); }
  // What can stop a call on it: `cancel`, which may be null, and closing the session or its model.
  StopSignals stop_signals(const CancelFlag* cancel) const;
  // Changes whenever the tokens held change. May be called without holding the session's use.
  uint64_t revision() const { return revision_.load(std::memory_order_relaxed); }

  // The tokens at the end that are not computed yet.
  size_t n_computed() const { return n_computed_; }
  std::span<const int32_t> uncomputed() const { return std::span(tokens_).subspan(n_computed_); }
  // Reserves room for n more tokens, so that hold() cannot fail.
  void reserve(size_t n);
  // Appends tokens, to be computed later. The caller has checked them.
  void hold(std::span<const int32_t> ids);
  // Before a step, which may compute up to n_ahead tokens more than the session holds, and after it: n more tokens are
  // computed, and behind them in the cache those `ahead`, at most as many.
  void begin_step(size_t n_ahead);
  void computed(size_t n, std::span<const int32_t> ahead);
  // Those that are left of them, for who knows which step it was: step_index() after it. No other call sees them, and
  // whatever changes the cache or the tokens before them drops them.
  std::span<const int32_t> ahead(uint64_t step) const {
    return step == step_index_ ? std::span(ahead_).subspan(n_adopted_) : std::span<const int32_t>();
  }
  uint64_t step_index() const { return step_index_; }
  // If the only uncomputed token is the first of them, it is computed now: true.
  bool adopt_ahead(uint64_t step);
  // Makes the next pass recompute at least the last token, so that it can be read out. Needs a token.
  void recompute_last() {
    drop_ahead();
    n_computed_ = std::min(n_computed_, length() - 1);
  }
  // Computes everything not computed yet, in chunks. `wanted` of `rows`, ascending indices into uncomputed().
  // own_status: if not null, receives StepPart::status of the last pass.
  Status compute(std::span<const size_t> rows, const Readout& wanted, const StopSignals& stop, Status* own_status);
  // CONTEXT_LENGTH if n_more tokens do not fit after the first n_before. Called before anything is copied or read whose
  // size only the caller vouches for.
  Status check_room(size_t n_more, size_t n_before) const;
  // Whether ids can be placed there: CONTEXT_LENGTH, TOKEN_OUT_OF_RANGE
  Status check_ids(std::span<const int32_t> ids, size_t n_before) const;

 private:
  struct Undo;
  class Saved;
  Session() = default;
  Status compute_all();
  Result<std::unique_ptr<KvCache>> make_cache(uint64_t context_length, std::string_view what) const;
  Status keep_rows(size_t n);
  void forget_rows();
  void changed() { revision_.fetch_add(1, std::memory_order_relaxed); }
  void drop_ahead() {
    ahead_.clear();
    n_adopted_ = 0;
  }
  void release_trace();
  Status write(FunctionRef<Status(std::span<const std::byte>)> sink) const;
  Status read(Saved& saved);

  std::shared_ptr<LoadedModel> model_;
  SessionOptions asked_, options_;  // as they were given, and resolved
  Precision precision_ = Precision::exact;
  std::vector<int32_t> tokens_;
  size_t n_computed_ = 0;
  std::vector<int32_t> ahead_;  // the first n_adopted of them are among tokens_ by now
  size_t n_adopted_ = 0;
  uint64_t step_index_ = 0;
  std::atomic<uint64_t> revision_{1};
  std::unique_ptr<KvCache> cache_;
  Buffer logits_;  // [max(n_logits_, 1), vocab]
  Buffer hidden_;  // [n_hidden_, h]
  size_t n_logits_ = 0, n_hidden_ = 0;
  bool has_last_logits_ = false;  // the last row of logits_ is that of the last token
  std::shared_ptr<Trace> trace_;
  std::shared_ptr<Session> follower_;
};

}  // namespace finermoe

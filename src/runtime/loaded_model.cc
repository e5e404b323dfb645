#include "runtime/loaded_model.h"

#include <algorithm>
#include <chrono>

#include "base/sha256.h"
#include "format/tensor_table.h"
#include "model/split_kv_cache.h"
#include "placement/expert_cache_size.h"

namespace finermoe {
namespace {

// Errors that may not recur, as the system may have enough resources next time: they say nothing about the files.
bool may_pass(Code code) { return code == FINERMOE_ERROR_OUT_OF_MEMORY || code == FINERMOE_ERROR_MEMORY_LIMIT; }

// What the runtime's device has of the weights, if they are limited.
Result<DeviceShare> share_within(const Checkpoint& checkpoint, const Device& device, uint64_t limit) {
  if (!device.copies_weights()) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("a limit of weights on a device, ", limit, " bytes, is for one with memory of its own: ",
                              device.name(), " uses them where they are"),
                  "no limit", format_text(limit));
  }
  FM_ASSIGN(const Config config, checkpoint.resolved_config());  // a head of its own takes room too
  const DeviceShare share = DeviceShare::within(config, limit, [](size_t) { return uint64_t{0}; });
  if (share.weights <= limit) return share;
  return Status(FINERMOE_ERROR_DEVICE_MEMORY,
                format_text("the head and one layer take ", share.weights, " bytes of ", device.name(),
                            ", more than the limit of ", limit),
                format_text("at least ", share.weights, " bytes"), format_text(limit, " bytes"));
}

Status check_expert_cache(const Device& device, const LoadOptions& options) {
  FM_TRY(check_expert_cache_on(device, options.expert_cache));
  if (options.expert_device.empty()) return {};
  return Status(
      FINERMOE_ERROR_INVALID_ARGUMENT,
      format_text("routed experts are either fetched into an expert cache or computed by an expert device, and "
                  "both are asked for: ",
                  options.expert_cache, " bytes and ", options.expert_device),
      "an expert cache or an expert device", options.expert_device);
}

Result<Placement> place(const Checkpoint& checkpoint, const Runtime& runtime, const LoadOptions& options) {
  const Config& config = checkpoint.config();
  const OpenDevice& device = runtime.device();
  const std::string_view other = options.expert_device;
  const bool fetches = options.expert_cache != 0;
  if (fetches) FM_TRY(check_expert_cache(*device.device, options));
  DeviceShare share;
  share.n_layers = config.n_layers;
  share.n_moe_layers = other.empty() && !fetches ? config.n_moe_layers() : 0;
  if (options.device_weights != 0) {
    FM_ASSIGN(share, share_within(checkpoint, *device.device, options.device_weights));
  }
  const bool is_whole = share.n_layers == config.n_layers && share.n_moe_layers == config.n_moe_layers();
  if (is_whole && other.empty()) return Placement::on(device);
  FM_ASSIGN(OpenDevice of_rest, runtime.open_device(other.empty() ? "cpu" : other));
  if (is_whole || (of_rest.device == device.device && options.device_weights == 0)) return Placement::on(device);
  if (of_rest.device == device.device) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("what has no room within the limit of weights on ", other,
                              " cannot be there, but it is named as the device of the experts"),
                  "another device", std::string(other));
  }
  Placement placement = Placement::shared(device, share, std::move(of_rest), config);
  if (fetches) placement.fetch_experts(config);
  return placement;
}

// Passes that need nothing of the host, as long as all weights are on one device. What they read together is bounded,
// so that the host receives tokens, and can stop, every few hundredths of a second.
size_t passes_without_host(const Config& config, const Placement& placement) {
  constexpr uint64_t most_bytes = 16'000'000'000;
  if (!placement.is_on_one_device() || placement.fetches_experts()) return 1;
  uint64_t bytes_per_token = 0;
  visit_tensors(config, [&](const TensorSpec& spec) { bytes_per_token += read_per_token(config, spec); });
  const size_t most = placement.devices[0].backend->most_passes();
  return std::clamp<size_t>(most_bytes / bytes_per_token, 1, most);
}

}  // namespace

Result<std::shared_ptr<LoadedModel>> LoadedModel::load(std::shared_ptr<const Checkpoint> checkpoint,
                                                       std::shared_ptr<Runtime> runtime, const LoadOptions& options,
                                                       const Progress& progress) {
  std::shared_ptr<LoadedModel> loaded(new LoadedModel);
  Model& model = loaded->model_;
  model.config = checkpoint->config();
  FM_ASSIGN(model.placement, place(*checkpoint, *runtime, options));
  FM_ASSIGN(model.expert_pages, manage_experts(checkpoint, model.placement, options.residency, runtime->pool()));
  FM_TRY(prefer_huge_pages(*checkpoint, model.placement, model.expert_pages != nullptr));
  FM_TRY(lock_weights(*checkpoint, model.placement, options.residency.lock, progress));
  FM_ASSIGN(model.weights, Weights::bind(*checkpoint, model.placement, runtime->account(), progress));
  if (model.placement.fetches_experts()) {
    FM_ASSIGN(model.expert_cache, ExpertCache::make(checkpoint, model.placement, options.expert_cache,
                                                    model.weights.experts, model.expert_pages, runtime->account()));
  }
  loaded->most_passes_ = passes_without_host(model.config, model.placement);
  model.checkpoint = std::move(checkpoint);
  loaded->runtime_ = std::move(runtime);
  return loaded;
}

Result<std::unique_ptr<KvCache>> LoadedModel::make_kv_cache(uint64_t capacity, DType dtype,
                                                            std::string_view what) const {
  const KvShape shape = KvShape::of(config(), capacity, dtype);
  const Placement& placement = model_.placement;
  if (placement.divides_layers()) return SplitKvCache::make(placement, shape, runtime_->account(), what);
  return placement.devices[0].backend->make_kv_cache(shape, runtime_->account(), what);
}

size_t LoadedModel::most_rows_as_alone() const {
  size_t most = SIZE_MAX;
  for (const auto& device : model_.placement.devices) most = std::min(most, device.backend->most_rows_as_alone());
  return most;
}

uint32_t LoadedModel::quantized_dtypes() const {
  uint32_t bits = 0;
  for (const auto& device : model_.placement.devices) bits |= device.backend->quantized_dtypes();
  return bits;
}

Status LoadedModel::settle_head() {
  if (head_settled_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(head_mutex_);
  if (head_settled_.load(std::memory_order_relaxed)) return {};
  FM_ASSIGN(const Config resolved, model_.checkpoint->resolved_config());
  const bool is_bound = model_.placement.of_head() != model_.placement.of_embedding();
  if (config().tied_embeddings && !resolved.tied_embeddings && !is_bound) {
    FM_TRY(model_.weights.bind_head(*model_.checkpoint, model_.placement, runtime_->account()));
  }
  if (model_.checkpoint->stores_tied_head()) {
    runtime_->log(1, resolved.tied_embeddings
                         ? "lm_head.weight equals the embeddings, to which config.json ties it"
                         : "lm_head.weight differs from the embeddings, to which config.json ties it: it is used");
  }
  head_settled_.store(true, std::memory_order_release);
  return {};
}

Result<std::shared_ptr<const Tokenizer>> LoadedModel::tokenizer() {
  std::lock_guard lock(text_mutex_);
  if (tokenizer_) return *tokenizer_;
  const auto read = [&](const std::string& name) { return model_.checkpoint->text(name); };
  auto opened = Tokenizer::open("the model", read);
  const Code code = opened.status().code();
  if (may_pass(code)) return opened;
  if (code != FINERMOE_OK && code != FINERMOE_ERROR_NO_TOKENIZER) {
    runtime_->log(2, format_text("only token ids can be used with the model: ", opened.status().message()));
  }
  tokenizer_ = opened;
  return opened;
}

Result<std::shared_ptr<const Tokenizer>> LoadedModel::usable_tokenizer() {
  auto found = tokenizer();
  if (!found.ok() && !may_pass(found.status().code())) return std::shared_ptr<const Tokenizer>();
  return found;
}

Result<std::vector<int32_t>> LoadedModel::padding_ids() {
  std::vector<int32_t> ids;
  FM_ASSIGN(const auto found, usable_tokenizer());
  if (!found) return ids;
  for (int32_t id = 0; static_cast<uint64_t>(id) < config().vocab_size; id++) {
    if (found->kind(id) == TokenKind::unused) ids.push_back(id);
  }
  return ids;
}

Result<LoadedModel::Lease> LoadedModel::borrow_scratch(size_t n_rows, uint64_t n_positions, const StopSignals& stop) {
  constexpr auto patience = std::chrono::milliseconds(20);  // between two checks of `stop`
  std::unique_lock lock(scratch_mutex_);
  for (;;) {
    free_scratch_.reserve(free_scratch_.size() + n_lent_ + 1);  // returning scratch must not allocate
    const auto is_large_enough = [&](const auto& s) {
      return s->n_rows() >= n_rows && s->n_positions() >= n_positions;
    };
    auto found = std::find_if(free_scratch_.begin(), free_scratch_.end(), is_large_enough);
    if (found != free_scratch_.end()) {
      auto scratch = std::move(*found);
      free_scratch_.erase(found);
      n_lent_++;
      return Lease(*this, std::move(scratch));
    }
    // As large as the largest so far, so that all can use it in turn; otherwise as large as necessary.
    const size_t most_rows = std::max(scratch_rows_, n_rows);
    const uint64_t most_positions = std::max(scratch_positions_, n_positions);
    auto made = make_scratch(most_rows, most_positions);
    if (!made.ok() && (most_rows > n_rows || most_positions > n_positions)) made = make_scratch(n_rows, n_positions);
    if (made.ok()) {
      scratch_rows_ = most_rows;
      scratch_positions_ = most_positions;
      n_lent_++;
      return Lease(*this, std::move(*made));
    }
    if (n_lent_ == 0) {
      scratch_returned_.notify_all();  // those waiting for a step to end have nothing left to wait for
      return made.status();
    }
    scratch_returned_.wait_for(lock, patience);
    FM_TRY(stop.check());
  }
}

// Frees smaller unused ones if that makes room. The lock is held.
Result<std::unique_ptr<Scratch>> LoadedModel::make_scratch(size_t n_rows, uint64_t n_positions) {
  const auto& account = runtime_->account();
  auto made = Scratch::make(model_, n_rows, n_positions, account);
  if (made.ok() || free_scratch_.empty()) return made;
  const size_t n_threads = runtime_->pool()->n_threads();
  uint64_t of_free = 0;
  for (const auto& free : free_scratch_) {
    of_free += Scratch::bytes(model_, free->n_rows(), free->n_positions(), n_threads);
  }
  const uint64_t needed = Scratch::bytes(model_, n_rows, n_positions, n_threads), used = account->used();
  if (account->limit() != 0 && used - std::min(used, of_free) + needed > account->limit()) return made;
  free_scratch_.clear();
  return Scratch::make(model_, n_rows, n_positions, account);
}

void LoadedModel::give_back(std::unique_ptr<Scratch> scratch) noexcept {
  {
    std::lock_guard lock(scratch_mutex_);
    free_scratch_.push_back(std::move(scratch));
    n_lent_--;
  }
  scratch_returned_.notify_all();
}

Result<std::string> LoadedModel::fingerprint() {
  std::lock_guard lock(text_mutex_);
  if (fingerprint_.empty()) {
    FM_ASSIGN(fingerprint_, compute_fingerprint());
  }
  return fingerprint_;
}

Result<std::string> LoadedModel::compute_fingerprint() const {
  FM_ASSIGN(const Config resolved, model_.checkpoint->resolved_config());
  Sha256 hash;
  auto add_text = [&](std::string_view text) {
    hash.update(std::as_bytes(std::span(text.data(), text.size())));
    hash.update(std::as_bytes(std::span("\n", 1)));
  };
  const Config& c = config();
  add_text(format_text(c.model_type_name(), " ", c.rms_norm_eps, " ", c.rope.theta, " ", c.n_heads, " ", c.n_kv_heads,
                       " ", c.router.top_inter, " ", c.router.softmax_over_all ? 1 : 0,
                       c.router.norm_topk_prob ? 1 : 0));
  add_text(format_text(c.rope.scaling_name(), " ", c.rope.factor, " ", c.rope.attention_factor, " ",
                       c.rope.original_positions, " ", c.rope.beta_fast, " ", c.rope.beta_slow, " ",
                       c.rope.truncate ? 1 : 0, " ", c.rope.low_freq_factor, " ", c.rope.high_freq_factor, " ",
                       c.sliding_window));
  for (size_t layer = 0; layer < c.n_layers; layer++) add_text(c.is_sliding_layer[layer] ? "1" : "0");
  FM_TRY(for_each_tensor(resolved, [&](const TensorSpec& spec) {
    const Tensor& tensor = *model_.checkpoint->find(spec.name);
    add_text(format_text(spec.name, " ", name_of(tensor.dtype), " ", tensor.rows, " ", tensor.columns));
    const bool small = spec.kind == TensorKind::norm || spec.kind == TensorKind::bias ||
                       spec.kind == TensorKind::router || spec.kind == TensorKind::concat_gate ||
                       spec.kind == TensorKind::shared_gate;
    if (small) hash.update(std::span(tensor.data, tensor.bytes()));
    return Status();
  }));
  return hash.hex();
}

}  // namespace finermoe

// Upcycling (Eq. 9 and 10; docs/finermoe-layer.md, section 6): the tensors of the result, each as a part of the dense
// checkpoint or as random numbers. Read upcycle() at the end first, then upwards.
#include <cmath>
#include <memory>

#include "convert/carry.h"
#include "convert/convert.h"
#include "convert/drop.h"
#include "convert/fill.h"
#include "convert/finite.h"
#include "convert/upcycled_config.h"
#include "convert/writer.h"
#include "format/checkpoint.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

struct Preset {
  const char* name;
  uint64_t granularity_inter, expansion_inter, granularity_output, expansion_output, top_inter;
  bool shared_expert;
  double drop_ratio;
};
constexpr Preset presets[] = {
    {"finermoe", 32, 1, 2, 2, 1, true, 0}, {"c32a2", 1, 32, 1, 1, 2, false, 0},
    {"s16a4", 16, 1, 1, 1, 4, false, 0},   {"drop-upcycling", 1, 8, 1, 1, 2, false, 0.5},
    {"nvshard", 8, 8, 1, 1, 8, false, 0},  {"no-fg", 1, 1, 1, 2, 1, true, 0},
    {"inter-fg", 32, 1, 1, 2, 1, true, 0}, {"out-fg", 1, 1, 2, 2, 1, true, 0},
};

// Plans one tensor after the other, in the order of for_each_tensor.
class Upcycler {
 public:
  Upcycler(const Checkpoint& dense, bool is_tied, const Config& config, const UpcycleOptions& options, uint64_t seed)
      : dense_(dense), is_tied_(is_tied), config_(config), options_(options), seed_(seed) {
    double scale = options.down_scale;
    if (scale == 0) scale = options.shared_expert ? 1 : static_cast<double>(options.granularity_inter);
    down_scale_ = static_cast<float>(scale);
  }

  Status plan(const TensorSpec& spec) {
    PlannedTensor tensor{std::string(spec.name), config_.dtype, spec.rows, spec.columns, {}, {}};
    uint64_t key = stream_key(seed_, spec.name);
    double deviation = config_.initializer_range;
    bool is_virtual_group = options_.router_init == RouterInit::virtual_group;
    switch (spec.kind) {
      case TensorKind::routed:
        FM_TRY(plan_expert(spec, tensor));
        break;
      case TensorKind::router:
        // One random row for each replica of the FFN, the same for all its G_I shards, which together start as one
        // whole FFN.
        tensor.fill = is_virtual_group
                          ? repeated_row_fill(tensor.dtype, key, deviation, spec.columns, options_.granularity_inter)
                          : normal_fill(tensor.dtype, key, deviation);
        break;
      case TensorKind::shared_gate:
      case TensorKind::concat_gate:
        tensor.fill = normal_fill(tensor.dtype, key, deviation);
        break;
      case TensorKind::concat_proj:
        tensor.fill = options_.concat_proj == ConcatProj::zero ? constant_fill(tensor.dtype, 0)
                                                               : normal_fill(tensor.dtype, key, deviation);
        break;
      default:
        FM_TRY(plan_copy(spec, tensor));
    }
    tensors_.push_back(std::move(tensor));
    return {};
  }
  std::vector<PlannedTensor> take() { return std::move(tensors_); }

 private:
  Result<const Tensor*> find(const std::string& name) const {
    const Tensor* source = dense_.find(name);
    if (!source) return Status(FINERMOE_ERROR_TENSOR_MISSING, format_text("the dense model has no tensor ", name));
    return source;
  }

  // Everything that the dense model also has: under the same name, except for the shared expert (Eq. 9) and a tied
  // head.
  Status plan_copy(const TensorSpec& spec, PlannedTensor& tensor) const {
    std::string name(spec.name);
    if (spec.kind == TensorKind::shared) name = ffn_tensor_name(TensorKind::dense, spec.role, spec.layer);
    if (spec.kind == TensorKind::head && is_tied_) name = embedding_name;
    FM_ASSIGN(const Tensor* source, find(name));
    tensor.dtype = source->dtype;
    tensor.fill = copy_fill(Slice::whole(*source));
    return {};
  }

  // Expert k holds part i of the intermediate width and writes component j of the output (Eq. 10).
  Status plan_expert(const TensorSpec& spec, PlannedTensor& tensor) {
    if (spec.layer != layer_) FM_TRY(enter_layer(spec.layer));
    uint64_t k = static_cast<uint64_t>(spec.expert), group_size = config_.router.group_size();
    uint64_t i = k % group_size % config_.router.granularity_inter, j = config_.router.component_of(k);
    uint64_t first = i * config_.expert_width;
    size_t matrix = spec.role == TensorRole::gate ? 0 : spec.role == TensorRole::up ? 1 : 2;
    const Tensor& source = *ffn_[matrix];
    Slice slice{&source, first, 0, spec.columns};
    if (matrix == 2) slice = {&source, j * config_.expert_output_width(), first, spec.columns};
    float scale = matrix == 2 ? down_scale_ : 1;
    tensor.dtype = source.dtype;
    tensor.fill = copy_fill(slice, scale);
    if (options_.drop_ratio == 0) return {};
    if (spec.expert != expert_) {
      expert_ = spec.expert;
      drop_ = std::make_shared<DropExpert>(drop_layer_, expert_name(spec.layer, spec.expert), seed_, j, first,
                                           config_.expert_width, options_.drop_ratio);
    }
    tensor.fill = drop_fill(slice, drop_, matrix, stream_key(seed_, spec.name), scale);
    tensor.prepare = [drop = drop_](ThreadPool& pool) { return drop->prepare(pool); };
    return {};
  }

  Status enter_layer(int64_t layer) {
    for (size_t matrix = 0; matrix < 3; ++matrix) {
      FM_ASSIGN(ffn_[matrix], find(ffn_tensor_name(TensorKind::dense, ffn_roles[matrix], layer)));
    }
    layer_ = layer;
    expert_ = -1;
    drop_layer_ = std::make_shared<DropLayer>(*ffn_[0], *ffn_[1], *ffn_[2], config_.router.granularity_output);
    return {};
  }

  const Checkpoint& dense_;
  const bool is_tied_;    // the dense model's head, to its embeddings
  const Config& config_;  // of the result
  const UpcycleOptions& options_;
  const uint64_t seed_;
  float down_scale_ = 1;
  int64_t layer_ = -1, expert_ = -1;  // which the next three belong to
  const Tensor* ffn_[3] = {};         // gate, up, down of the dense layer
  std::shared_ptr<DropLayer> drop_layer_;
  std::shared_ptr<DropExpert> drop_;
  std::vector<PlannedTensor> tensors_;
};

Status check(const UpcycleOptions& options) {
  auto refuse = [](const char* what, const char* expected, double found) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text(what, " must be ", expected, ", not ", found), expected,
                  format_text(found));
  };
  if (!(options.drop_ratio >= 0 && options.drop_ratio <= 1))
    return refuse("the drop ratio", "in [0, 1]", options.drop_ratio);
  if (!(options.down_scale >= 0 && std::isfinite(options.down_scale)))
    return refuse("the down scale", "finite and not negative", options.down_scale);
  return {};
}

}  // namespace

Result<UpcycleOptions> UpcycleOptions::preset(const std::string& name) {
  std::string known;
  for (const Preset& preset : presets) {
    if (name != preset.name) {
      known += format_text(known.empty() ? "" : ", ", preset.name);
      continue;
    }
    UpcycleOptions options;
    options.granularity_inter = preset.granularity_inter;
    options.expansion_inter = preset.expansion_inter;
    options.granularity_output = preset.granularity_output;
    options.expansion_output = preset.expansion_output;
    options.top_inter = preset.top_inter;
    options.shared_expert = preset.shared_expert;
    options.drop_ratio = preset.drop_ratio;
    return options;
  }
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("there is no preset \"", name, "\"; there are ", known),
                known, name);
}

Status upcycle(const std::string& dense_path, const std::string& out_path, const UpcycleOptions& options,
               const WriterOptions& writer_options) {
  FM_TRY(check(options));
  FM_ASSIGN(Staging staging, Staging::plan(out_path, dense_path, writer_options.overwrite));
  Checkpoint::Options open;
  open.account = std::make_shared<MemoryAccount>(0);
  open.progress.cancel = writer_options.progress.cancel;
  FM_ASSIGN(std::shared_ptr<const Checkpoint> dense, Checkpoint::open(dense_path, open));
  if (dense->config().model_type != ModelType::qwen2)
    return Status(FINERMOE_ERROR_MODEL_TYPE,
                  format_text("upcycling begins with a dense model: model_type must be qwen2, ", dense_path, " is ",
                              dense->config().model_type_name()),
                  "qwen2", dense->config().model_type_name());
  FM_TRY(refuse_quantized(*dense, dense_path));

  PlannedCheckpoint result;
  FM_ASSIGN(result.config_json, upcycled_config(*dense, options));
  FM_ASSIGN(Config config, Config::parse(result.config_json, "the upcycled config.json"));
  FM_ASSIGN(const Config resolved, dense->resolved_config());
  Upcycler upcycler(*dense, resolved.tied_embeddings, config, options, writer_options.seed);
  FM_TRY(for_each_tensor(config, [&upcycler](const TensorSpec& spec) { return upcycler.plan(spec); }));
  result.tensors = upcycler.take();
  FM_ASSIGN(result.texts, carried_texts(*dense));
  result.check = [&dense] { return dense->check_unchanged(); };
  return write_checkpoint(std::move(staging), result, writer_options);
}

}  // namespace finermoe

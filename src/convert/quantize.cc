// Quantization: converts the matrices of a model to block formats and copies everything else.
#include <algorithm>
#include <cmath>
#include <compare>
#include <cstring>
#include <mutex>

#include "base/json.h"
#include "convert/carry.h"
#include "convert/convert.h"
#include "convert/encode.h"
#include "convert/fill.h"
#include "convert/finite.h"
#include "convert/writer.h"
#include "format/checkpoint.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

// The block of columns [column, column + 32) of the panel that begins at `row`.
void load_block(const Tensor& matrix, uint64_t row, uint64_t column, BlockWeights& out) {
  const size_t rows = std::min<uint64_t>(panel_rows, matrix.rows - row), size = size_of(matrix.dtype);
  const size_t columns = std::min<uint64_t>(block_columns, matrix.columns - column);
  if (rows < panel_rows || columns < block_columns) std::memset(out, 0, sizeof out);
  for (size_t r = 0; r < rows; r++) {
    const std::byte* from = matrix.data + ((row + r) * matrix.columns + column) * size;
    if (matrix.dtype == DType::bf16 && columns == block_columns) {
      uint16_t bits[block_columns];
      std::memcpy(bits, from, sizeof bits);
      for (size_t c = 0; c < block_columns; c++) out[r][c] = bf16_to_float(bits[c]);
    } else {
      for (size_t c = 0; c < columns; c++) out[r][c] = load_element(matrix.dtype, from, c);
    }
  }
}

// Plans one tensor after the other, in the order of for_each_tensor; kept until all are written.
class Quantizer {
 public:
  Quantizer(const Checkpoint& source, const Quantization& types) : source_(source), types_(types) {}

  void plan(const TensorSpec& spec) {
    const Tensor& tensor = *source_.find(spec.name);
    const DType dtype = types_.type_of(spec.kind, spec.name).value_or(tensor.dtype);
    const size_t index = tensors_.size();
    Fill fill;
    if (is_blocked(dtype)) {
      fill = [this, &tensor, dtype, index](uint64_t begin, uint64_t end, std::byte* out) {
        BlockWeights weights;
        const uint64_t blocks = blocks_of(tensor.columns);
        for (uint64_t i = begin; i < end; i++, out += block_bytes(dtype)) {
          load_block(tensor, i / blocks * panel_rows, i % blocks * block_columns, weights);
          if (!encode_block(dtype, weights, out)) return refuse({index, i});
        }
      };
    } else {
      fill = [this, &tensor, index](uint64_t begin, uint64_t end, std::byte* out) {
        Slice::whole(tensor).copy(begin, end, out);
        if (count_non_finite(tensor.dtype, out, (end - begin) * size_of(tensor.dtype)).any()) refuse({index, begin});
      };
    }
    sources_.push_back(&tensor);
    tensors_.push_back({std::string(spec.name), dtype, spec.rows, spec.columns, std::move(fill), {}});
  }
  std::vector<PlannedTensor> take() { return std::move(tensors_); }

  Status check() const {
    FM_TRY(source_.check_unchanged());
    if (first_bad_ == none) return {};
    const Tensor& tensor = *sources_[first_bad_.tensor];
    const NonFinite found = count_non_finite(tensor.dtype, tensor.data, tensor.bytes());
    if (found.any()) {
      return Status(FINERMOE_ERROR_NOT_FINITE, format_text("tensor ", tensor.name, " holds NaN or infinity"),
                    "finite weights", format_text(found.n_nan, " NaN and ", found.n_infinite, " infinite"));
    }
    BlockWeights weights;
    const uint64_t blocks = blocks_of(tensor.columns);
    load_block(tensor, first_bad_.item / blocks * panel_rows, first_bad_.item % blocks * block_columns, weights);
    float largest = 0;
    for (const auto& one : weights) {
      for (const float weight : one) largest = std::max(largest, std::abs(weight));
    }
    return Status(FINERMOE_ERROR_NOT_FINITE,
                  format_text("tensor ", tensor.name, " holds a weight of magnitude ", largest,
                              ", for which no scale in float16 is large enough"),
                  "weights of at most some 5e6", format_text(largest));
  }

 private:
  // An item of a tensor that could not be quantized.
  struct Place {
    size_t tensor;
    uint64_t item;
    auto operator<=>(const Place&) const = default;
  };
  static constexpr Place none{SIZE_MAX, UINT64_MAX};
  // The first in output order is reported, whichever thread finds one first.
  void refuse(Place place) {
    const std::lock_guard lock(mutex_);
    first_bad_ = std::min(first_bad_, place);
  }

  const Checkpoint& source_;
  const Quantization& types_;
  std::vector<PlannedTensor> tensors_;
  std::vector<const Tensor*> sources_;  // of each
  std::mutex mutex_;
  Place first_bad_ = none;
};

// A pattern that matches nothing is the caller's mistake.
Status check_patterns(const Config& config, const Quantization& types) {
  for (const Quantization::Override& one : types.overrides) {
    bool used = false;
    FM_TRY(for_each_tensor(config, [&](const TensorSpec& spec) {
      used |= can_be_blocked(spec.kind) && matches(one.pattern, spec.name);
      return Status();
    }));
    if (!used) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("the pattern \"", one.pattern, "\" matches no matrix that can be quantised"),
                    "a pattern of names of matrices", one.pattern);
    }
  }
  return {};
}

// `resolved`: of the source
Result<std::string> quantized_config(const Checkpoint& source, const Config& resolved, const Quantization& types) {
  FM_ASSIGN(std::optional<std::string> text, source.text("config.json"));
  FM_ASSIGN(Json config, parse_json(text.value_or(""), "config.json", FINERMOE_ERROR_CONFIG_MALFORMED));
  config["quantization_config"] = types.to_json();
  if (!resolved.tied_embeddings) config["tie_word_embeddings"] = false;
  return config.dump(2) + "\n";
}

}  // namespace

Status quantize(const std::string& path, const std::string& out_path, const Quantization& types,
                const WriterOptions& writer_options) {
  FM_ASSIGN(Staging staging, Staging::plan(out_path, path, writer_options.overwrite));
  Checkpoint::Options open;
  open.account = std::make_shared<MemoryAccount>(0);
  open.progress.cancel = writer_options.progress.cancel;
  FM_ASSIGN(std::shared_ptr<const Checkpoint> source, Checkpoint::open(path, open));
  FM_TRY(refuse_quantized(*source, path));
  FM_ASSIGN(const Config resolved, source->resolved_config());
  FM_TRY(check_patterns(resolved, types));

  PlannedCheckpoint result;
  FM_ASSIGN(result.config_json, quantized_config(*source, resolved, types));
  Quantizer quantizer(*source, types);
  FM_TRY(for_each_tensor(resolved, [&quantizer](const TensorSpec& spec) {
    quantizer.plan(spec);
    return Status();
  }));
  result.tensors = quantizer.take();
  FM_ASSIGN(result.texts, carried_texts(*source));
  result.check = [&quantizer] { return quantizer.check(); };
  return write_checkpoint(std::move(staging), result, writer_options);
}

}  // namespace finermoe

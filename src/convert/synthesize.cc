// Random checkpoints of any shape.
#include "base/json.h"
#include "convert/carry.h"
#include "convert/convert.h"
#include "convert/fill.h"
#include "convert/writer.h"
#include "format/config.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

// The configuration's text with another storage type; other keys stay as they are.
Result<std::string> with_dtype(const std::string& text, DType dtype) {
  FM_ASSIGN(Json config, parse_json(text, "config.json", FINERMOE_ERROR_CONFIG_MALFORMED));
  if (is_blocked(dtype)) {
    config["quantization_config"] = Quantization{dtype, DType::q8, {}}.to_json();
    return config.dump(2) + "\n";
  }
  config.erase("quantization_config");
  const char* name = dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
  if (config.contains("dtype")) config["dtype"] = name;
  if (config.contains("torch_dtype") || !config.contains("dtype")) config["torch_dtype"] = name;
  return config.dump(2) + "\n";
}

}  // namespace

Status synthesize(const std::string& config_path, const std::string& out_path, std::optional<DType> dtype,
                  const WriterOptions& writer_options) {
  FM_ASSIGN(Staging staging, Staging::plan(out_path, config_path, writer_options.overwrite));
  FM_ASSIGN(std::optional<std::string> text, read_model_text(config_path, "config.json"));
  if (!text) return Status(FINERMOE_ERROR_FILE_NOT_FOUND, format_text("there is no config.json in ", config_path));
  FM_ASSIGN(Config config, Config::parse(*text, config_path));

  PlannedCheckpoint result;
  result.config_json = *text;
  if (dtype && (is_blocked(*dtype) || config.quantization || *dtype != config.dtype)) {
    FM_ASSIGN(result.config_json, with_dtype(*text, *dtype));
    FM_ASSIGN(config, Config::parse(result.config_json, config_path));
  }
  double deviation = config.initializer_range;
  constexpr double most = 1e5;  // normal numbers stay within 50 deviations, so float16 scales can represent them all
  if (config.quantization && deviation > most) {
    return Status(FINERMOE_ERROR_CONFIG_VALUE,
                  format_text(config_path, ": initializer_range is too large for matrices in blocks"),
                  format_text("at most ", most), format_text(deviation));
  }
  FM_TRY(for_each_tensor(config, [&](const TensorSpec& spec) -> Status {
    uint64_t key = stream_key(writer_options.seed, spec.name);
    DType storage = config.type_of(spec);
    Fill fill = spec.kind == TensorKind::norm ? constant_fill(storage, 1)
                : is_blocked(storage)         ? normal_blocks_fill(storage, key, deviation, spec.rows, spec.columns)
                                              : normal_fill(storage, key, deviation);
    result.tensors.push_back({std::string(spec.name), storage, spec.rows, spec.columns, std::move(fill), {}});
    return {};
  }));
  // Tokenizer files are beside a config.json, or in the model that was named.
  bool is_file = config_path.ends_with(".json");
  size_t slash = config_path.rfind('/');
  std::string beside = !is_file ? config_path : slash == config_path.npos ? "." : config_path.substr(0, slash + 1);
  result.texts = carried_texts(beside);
  return write_checkpoint(std::move(staging), result, writer_options);
}

}  // namespace finermoe

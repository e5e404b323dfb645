// "quantization_config" of config.json: which types a quantized model's matrices have. When a model is loaded the
// tensors' own shapes decide; this serves plans and the writer of such a model.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace finermoe {

class Json;
enum class TensorKind;

struct Quantization {
  struct Override {
    std::string pattern;         // of tensor names, with * and ?
    std::optional<DType> dtype;  // Q8, Q4; nullopt, here and below: as in the source
  };
  std::optional<DType> weights, embeddings;  // the second of embeddings and head
  std::vector<Override> overrides;           // the last match wins

  // The type of a tensor that may be in blocks; nullopt if it keeps its own.
  std::optional<DType> type_of(TensorKind kind, std::string_view name) const;

  // UNSUPPORTED for methods and versions other than ours; nullopt for settings of bitsandbytes that are all switched
  // off. `file_name` is used in messages.
  static Result<std::optional<Quantization>> parse(const Json& value, std::string_view file_name);
  Json to_json() const;
};

// Whether all of `name` is of the form `pattern`, in which * stands for any bytes and ? for one.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace finermoe

#include "format/other_models.h"

#include <algorithm>
#include <vector>

namespace finermoe {
namespace {

constexpr struct {
  std::string_view ending, remedy;
} other_weights[] = {
    {".gguf", "GGUF is not read: use the checkpoint that it was made from, in safetensors"},
    {".bin", "pickled weights are not read: save the model as safetensors (save_pretrained of transformers does)"},
    {".pt", "pickled weights are not read: save the model as safetensors (save_pretrained of transformers does)"},
    {".pth", "pickled weights are not read: save the model as safetensors (save_pretrained of transformers does)"},
    {".h5", "HDF5 is not read: save the model as safetensors"},
    {".msgpack", "Flax weights are not read: save the model as safetensors"},
    {".safetensors", "one file is to be named model.safetensors, several to stand in model.safetensors.index.json"}};

}  // namespace

Status missing_file_error(const File& directory, const std::string& missing) {
  const std::string message = format_text(directory.name(), " has no ", missing);
  const auto names = directory.list();
  if (names.ok()) {
    if (std::find(names->begin(), names->end(), "adapter_config.json") != names->end()) {
      return adapter_error(directory.name());
    }
    for (const auto& [ending, remedy] : other_weights) {
      for (const std::string& name : *names) {
        if (!name.ends_with(ending)) continue;
        return Status(FINERMOE_ERROR_FILE_NOT_FOUND, format_text(message, ", but ", name, ": ", remedy), missing, name);
      }
    }
  }
  return Status(FINERMOE_ERROR_FILE_NOT_FOUND, message, missing, "nothing");
}

bool is_adapter_tensor(std::string_view name) {
  for (std::string_view part : {".lora_A", ".lora_B", ".lora_embedding_", ".lora_magnitude_vector", ".base_layer."}) {
    if (name.find(part) != name.npos) return true;
  }
  return name.starts_with("base_model.model.");
}

Status adapter_error(std::string_view name) {
  return Status(
      FINERMOE_ERROR_UNSUPPORTED,
      format_text(name,
                  " is an adapter (LoRA), not a model: merge it into its base model (merge_and_unload of peft) "
                  "and open the result"),
      "a model", "an adapter");
}

}  // namespace finermoe

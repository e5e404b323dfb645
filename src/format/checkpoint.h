// A model's files, opened and checked: configuration, tensor table, the texts beside them. Weights are not read.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/blocks.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/status.h"
#include "format/config.h"
#include "format/generation_defaults.h"

namespace finermoe {

// In a single-file model the header's __metadata__ holds each text under this prefix followed by its file name:
// "finermoe.config.json", "finermoe.tokenizer.json", … (docs/format.md).
inline constexpr std::string_view embedded_prefix = "finermoe.";

struct Tensor {
  std::string_view name;  // valid as long as the checkpoint
  DType dtype = DType::f32;
  uint64_t rows = 0;  // a vector has `rows` elements and columns 0
  uint64_t columns = 0;
  const std::byte* data = nullptr;
  uint32_t file = 0;  // index into Checkpoint::files()
  uint64_t elements() const { return rows * (columns ? columns : 1); }
  uint64_t bytes() const { return matrix_bytes(dtype, rows, columns); }
};

// Bytes of one of a checkpoint's files.
struct FileRange {
  uint32_t file = 0;  // index into Checkpoint::files()
  uint64_t begin = 0, end = 0;
  uint64_t size() const { return end - begin; }
};

class Checkpoint {
 public:
  struct Options {
    bool copy = false;                       // read the weights into memory instead of mapping them
    std::shared_ptr<MemoryAccount> account;  // for copies; never null
    Progress progress;                       // phase "open", or "copy" in bytes
  };
  // A Hugging Face directory or a single-file model. Every tensor that the configuration requires is present with its
  // shape and a known dtype; additional tensors are ignored.
  static Result<std::shared_ptr<const Checkpoint>> open(const std::string& path, const Options& options);
  static Result<std::shared_ptr<const Checkpoint>> open_fd(int fd, const Options& options);
  static Result<std::shared_ptr<const Checkpoint>> open_memory(const void* data, size_t size, const Options& options);

  // As in config.json, tied_embeddings included: see resolved_config().
  const Config& config() const { return config_; }
  // An error in generation_config.json is reported to those who ask for it.
  const Result<GenerationDefaults>& generation_defaults() const { return generation_defaults_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;  // null if absent
  FileRange range_of(const Tensor& tensor) const;   // where its bytes are
  const std::vector<std::shared_ptr<const FileBytes>>& files() const { return files_; }

  // If config.json ties the head to the embeddings and the files hold an lm_head.weight anyway, a head that differs is
  // used, and one that is equal is tied, as in transformers. They are compared at the first call, up to the first
  // difference. Thread-safe.
  bool stores_tied_head() const { return tied_head_ != nullptr; }
  Result<Config> resolved_config() const;  // with tied_embeddings as the weights really are
  // Checks that the mapped files have not become shorter; called before each step.
  Status check_unchanged() const;

  // A text of the model by its file name in a Hugging Face directory ("tokenizer.json", "tokenizer_config.json",
  // "chat_template.jinja", "config.json", …), read by this call; nullopt if the model has none.
  Result<std::optional<std::string>> text(const std::string& file_name) const;
  // The names of all texts that a writer should copy (is_model_text).
  Result<std::vector<std::string>> text_names() const;

 private:
  Checkpoint() = default;
  friend class CheckpointReader;  // checkpoint.cc
  Config config_;
  Result<GenerationDefaults> generation_defaults_ = GenerationDefaults();
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string_view, uint32_t> index_;
  std::vector<std::shared_ptr<const FileBytes>> files_;
  std::vector<Buffer> headers_;                                // copies of the files' headers, which names point into
  std::list<std::string> escaped_names_;                       // names that a header spells with escapes
  std::optional<File> directory_;                              // of a Hugging Face directory
  std::vector<std::pair<std::string, std::string>> embedded_;  // texts of a single-file model
  const Tensor* tied_head_ = nullptr;                          // if stored beside the embeddings of a tied model
  mutable std::mutex head_mutex_;
  mutable std::optional<bool> head_differs_;  // from the embeddings; once compared
};

// Whether this is the name of a text that writers copy: a tokenizer file, generation_config.json, a license.
bool is_model_text(std::string_view name);

// A text by its name from a directory, a single-file model, or the file at `path` itself: for tokenizers and
// configurations without weights. nullopt if there is none.
Result<std::optional<std::string>> read_model_text(const std::string& path, const std::string& file_name);

}  // namespace finermoe

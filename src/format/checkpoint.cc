#include "format/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "format/other_models.h"
#include "format/safetensors.h"
#include "format/shard_index.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

constexpr uint64_t max_text_size = 256 << 20;
constexpr const char* whole_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";

// A text file of a directory; nullopt if there is none.
Result<std::optional<std::string>> read_text(const File& directory, const std::string& name) {
  Result<File> file = directory.open_at(name);
  if (file.status().code() == FINERMOE_ERROR_FILE_NOT_FOUND) return std::optional<std::string>();
  if (!file.ok()) return file.status();
  FM_ASSIGN(std::string text, file->read_all(max_text_size));
  return std::optional(std::move(text));
}

// The header's text, read and not mapped: names and shapes stay valid whatever happens to the file.
Result<Buffer> read_header(const File& file, std::shared_ptr<MemoryAccount> account) {
  if (file.is_directory()) {
    return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(file.name(), " is a directory"), "a safetensors file",
                  "a directory");
  }
  std::byte bytes[safetensors_beginning_size] = {};
  const auto beginning = std::span(bytes).first(std::min(file.size(), safetensors_beginning_size));
  FM_TRY(file.read(0, beginning));
  auto read_rest = [&](uint64_t size) -> Result<std::string> {
    std::string text(size, '\0');
    FM_TRY(file.read(safetensors_prefix_size, std::as_writable_bytes(std::span(text))));
    return text;
  };
  FM_ASSIGN(uint64_t size, safetensors_header_size(beginning, file.size(), file.name(), read_rest));
  FM_ASSIGN(Buffer header, Buffer::allocate(std::move(account), size, format_text("the header of ", file.name())));
  FM_TRY(file.read(safetensors_prefix_size, std::span(header.data(), size)));
  return header;
}

std::string_view as_text(const Buffer& buffer) { return {buffer.data<char>(), buffer.size()}; }

using Texts = std::vector<std::pair<std::string, std::string>>;

Texts embedded_texts(Texts metadata) {
  Texts texts;
  for (auto& [key, text] : metadata) {
    if (key.starts_with(embedded_prefix)) texts.emplace_back(key.substr(embedded_prefix.size()), std::move(text));
  }
  return texts;
}

std::optional<std::string> find_text(const Texts& texts, const std::string& name) {
  for (const auto& [key, text] : texts) {
    if (key == name) return text;
  }
  return std::nullopt;
}

std::string shape_text(uint64_t rank, uint64_t rows, uint64_t columns) {
  if (rank == 1) return format_text("[", rows, "]");
  if (rank == 2 && columns != 0) return format_text("[", rows, ", ", columns, "]");
  return format_text("rank ", rank, ", ", rows, " elements");
}

}  // namespace

// Fills a checkpoint file by file, then checks it against its configuration.
class CheckpointReader {
 public:
  explicit CheckpointReader(const Checkpoint::Options& options) : options_(options) {}

  Result<std::shared_ptr<const Checkpoint>> read(File file) {
    if (file.is_directory()) {
      checkpoint_->directory_ = std::move(file);
      FM_TRY(read_directory());
    } else {
      std::string name = file.name();
      std::vector<File> files;
      files.push_back(std::move(file));
      FM_TRY(add_files(std::move(files)));
      FM_TRY(read_texts(name));
    }
    return finish();
  }

  Result<std::shared_ptr<const Checkpoint>> read_memory(const void* memory, size_t size) {
    std::shared_ptr<const FileBytes> bytes = FileBytes::borrow(memory, size, "the model in memory");
    if (options_.copy) {
      auto report = [&](uint64_t done) { return options_.progress.report("copy", done, size); };
      FM_ASSIGN(bytes, FileBytes::copy(*bytes, options_.account, report));
    }
    const std::byte* data = bytes->data();
    auto read_rest = [&](uint64_t n) -> Result<std::string> {
      return std::string(reinterpret_cast<const char*>(data) + safetensors_prefix_size, n);
    };
    const auto beginning = std::span(bytes->data(), std::min(bytes->size(), safetensors_beginning_size));
    FM_ASSIGN(uint64_t header_size, safetensors_header_size(beginning, bytes->size(), bytes->name(), read_rest));
    FM_TRY(add_bytes(bytes, {reinterpret_cast<const char*>(data) + safetensors_prefix_size, header_size}));
    FM_TRY(read_texts(bytes->name()));
    return finish();
  }

 private:
  Status parse_texts(const std::string& config, const Result<std::optional<std::string>>& generation,
                     std::string_view name) {
    FM_ASSIGN(checkpoint_->config_, Config::parse(config, name));
    checkpoint_->generation_defaults_ =
        generation.ok() ? GenerationDefaults::parse(*generation, config) : generation.status();
    return {};
  }

  // The configuration of a single-file model, from its metadata.
  Status read_texts(const std::string& name) {
    std::optional<std::string> config = find_text(checkpoint_->embedded_, "config.json");
    if (!config && has_adapter_tensors()) return adapter_error(name);
    if (!config) {
      return Status(FINERMOE_ERROR_CONFIG_MISSING,
                    format_text(name, " has no ", embedded_prefix,
                                "config.json in its __metadata__: a single file is a model only "
                                "with its configuration inside; otherwise open its directory"),
                    format_text(embedded_prefix, "config.json"), "nothing");
    }
    return parse_texts(*config, find_text(checkpoint_->embedded_, "generation_config.json"),
                       format_text(name, ": config.json"));
  }

  Status read_directory() {
    const File& directory = *checkpoint_->directory_;
    Result<File> config_file = directory.open_at("config.json");
    if (config_file.status().code() == FINERMOE_ERROR_FILE_NOT_FOUND) {
      return missing_file_error(directory, "config.json");
    }
    if (!config_file.ok()) return config_file.status();
    FM_ASSIGN(std::string config, config_file->read_all(max_text_size));
    FM_TRY(parse_texts(config, read_text(directory, "generation_config.json"), config_file->name()));
    std::vector<File> files;
    Result<File> whole = directory.open_at(whole_name);
    if (whole.ok()) {
      files.push_back(std::move(*whole));
    } else if (whole.status().code() != FINERMOE_ERROR_FILE_NOT_FOUND) {
      return whole.status();
    } else {
      FM_TRY(open_shards(files));
    }
    FM_TRY(add_files(std::move(files)));
    return check_index();
  }

  Status open_shards(std::vector<File>& files) {
    const File& directory = *checkpoint_->directory_;
    FM_ASSIGN(std::optional<std::string> text, read_text(directory, index_name));
    if (!text) return missing_file_error(directory, format_text(whole_name, " and no ", index_name));
    FM_ASSIGN(index_, ShardIndex::parse(*text, format_text(directory.name(), "/", index_name)));
    for (size_t i = 0; i < index_.files.size();) {
      const std::string& name = index_.files[i];
      Result<File> file = directory.open_at(name);
      if (file.ok()) {
        files.push_back(std::move(*file));
        i++;
      } else if (file.status().code() != FINERMOE_ERROR_FILE_NOT_FOUND) {
        return file.status();
      } else if (holds_needed(static_cast<uint32_t>(i))) {
        return Status(FINERMOE_ERROR_SHARD_NOT_FOUND,
                      format_text(directory.name(), ": ", index_name, " names ", name, ", which is not there"), name,
                      "nothing");
      } else {
        index_.erase(static_cast<uint32_t>(i));
      }
    }
    return {};
  }

  // Whether, according to the index, a file holds a tensor that the model needs. Whether a tied model needs its head is
  // known only once both are there to be compared.
  bool holds_needed(uint32_t file) {
    return std::any_of(index_.tensors.begin(), index_.tensors.end(), [&](const auto& tensor) {
      return tensor.second == file && (needs(tensor.first) || tensor.first == head_name);
    });
  }

  bool needs(const std::string& name) {
    if (needed_.empty()) {
      visit_tensors(checkpoint_->config_, [&](const TensorSpec& spec) { needed_.emplace(spec.name); });
    }
    return needed_.contains(name);
  }

  // Checks what the index says about each tensor that the model needs. Its files are the checkpoint's, in the same
  // order.
  Status check_index() {
    for (const auto& [name, file] : index_.tensors) {
      const Tensor* tensor = checkpoint_->find(name);
      if (tensor ? tensor->file == file : foreign_.contains(name)) continue;
      if (!needs(name)) continue;
      const std::string& said = index_.files[file];
      return Status(
          FINERMOE_ERROR_INDEX_MALFORMED,
          format_text(checkpoint_->directory_->name(), "/", index_name, ": tensor ", name, " is not in ", said), said,
          tensor ? checkpoint_->files_[tensor->file]->name() : "nowhere");
    }
    return {};
  }

  bool has_adapter_tensors() const {
    return std::any_of(checkpoint_->tensors_.begin(), checkpoint_->tensors_.end(),
                       [](const Tensor& tensor) { return is_adapter_tensor(tensor.name); });
  }

  Status add_files(std::vector<File> files) {
    const uint64_t n_files = files.size();
    uint64_t total = 0, done = 0;
    for (const File& file : files) total += file.size();
    for (uint64_t i = 0; i < n_files; i++) {
      FM_TRY(options_.progress.report("open", i, n_files));
      FM_ASSIGN(Buffer header, read_header(files[i], options_.account));
      std::shared_ptr<const FileBytes> bytes;
      if (options_.copy) {
        auto report = [&](uint64_t n) { return options_.progress.report("copy", done + n, total); };
        FM_ASSIGN(bytes, FileBytes::copy(files[i], options_.account, report));
        done += bytes->size();
      } else {
        FM_ASSIGN(bytes, FileBytes::map(std::move(files[i])));
      }
      checkpoint_->headers_.push_back(std::move(header));
      FM_TRY(add_bytes(std::move(bytes), as_text(checkpoint_->headers_.back())));
    }
    return options_.progress.report("open", n_files, n_files);
  }

  Status add_bytes(std::shared_ptr<const FileBytes> bytes, std::string_view header_text) {
    const uint64_t data_begin = safetensors_prefix_size + header_text.size();
    FM_ASSIGN(SafetensorsHeader header,
              SafetensorsHeader::parse(header_text, bytes->size() - data_begin, bytes->name()));
    // Room for everything that the shard index names, so that the tables grow only once.
    const uint64_t room = std::max(index_.tensors.size(), checkpoint_->tensors_.size() + header.entries.size());
    checkpoint_->tensors_.reserve(room);
    checkpoint_->index_.reserve(room);
    for (const SafetensorsEntry& entry : header.entries) FM_TRY(add_tensor(entry, *bytes, data_begin));
    checkpoint_->escaped_names_.splice(checkpoint_->escaped_names_.end(), header.escaped_names);
    if (!checkpoint_->directory_) checkpoint_->embedded_ = embedded_texts(std::move(header.metadata));
    checkpoint_->files_.push_back(std::move(bytes));
    return {};
  }

  Status add_tensor(const SafetensorsEntry& entry, const FileBytes& bytes, uint64_t data_begin) {
    auto index = static_cast<uint32_t>(checkpoint_->tensors_.size());
    bool is_new = !foreign_.contains(entry.name) && (entry.dtype ? checkpoint_->index_.emplace(entry.name, index).second
                                                                 : !checkpoint_->index_.contains(entry.name));
    if (!is_new) {
      return Status(FINERMOE_ERROR_TENSOR_DUPLICATE,
                    format_text(bytes.name(), ": tensor ", entry.name, " appears twice"), "each tensor once",
                    std::string(entry.name));
    }
    if (!entry.dtype) {
      foreign_.emplace(entry.name, entry.dtype_name);
      return {};
    }
    const std::byte* data = bytes.data() + data_begin + entry.begin;
    checkpoint_->tensors_.push_back(
        {entry.name, *entry.dtype, entry.rows, entry.columns, data, static_cast<uint32_t>(checkpoint_->files_.size())});
    ranks_.push_back(entry.rank);
    return {};
  }

  Status check_tensor(const TensorSpec& spec) {
    auto place = checkpoint_->index_.find(spec.name);
    if (place == checkpoint_->index_.end()) {
      auto foreign = foreign_.find(spec.name);
      if (foreign != foreign_.end()) {
        return Status(
            FINERMOE_ERROR_TENSOR_DTYPE,
            format_text("tensor ", spec.name, " has the dtype ", foreign->second, "; expected F32, F16 or BF16"),
            "F32, F16 or BF16", foreign->second);
      }
      if (n_missing_++ < 3) missing_ += format_text(missing_.empty() ? "" : ", ", spec.name);
      return {};
    }
    Tensor& tensor = checkpoint_->tensors_[place->second];
    if (is_blocked(tensor.dtype)) return check_blocked(spec, tensor);
    uint64_t rank = ranks_[place->second];
    if (tensor.rows == spec.rows && tensor.columns == spec.columns && rank == (spec.columns ? 2 : 1)) return {};
    std::string expected = format_text(spec.formula, " = ", shape_text(spec.columns ? 2 : 1, spec.rows, spec.columns));
    std::string found = shape_text(rank, tensor.rows, tensor.columns);
    return Status(FINERMOE_ERROR_TENSOR_SHAPE,
                  format_text("tensor ", spec.name, " has the shape ", found, "; expected ", expected), expected,
                  found);
  }

  // A matrix in blocks is padded to whole panels; from here on it has the shape that the configuration gives it.
  Status check_blocked(const TensorSpec& spec, Tensor& tensor) const {
    if (!checkpoint_->config_.quantization || !can_be_blocked(spec.kind)) {
      return Status(
          FINERMOE_ERROR_TENSOR_DTYPE,
          format_text("tensor ", spec.name, " is in blocks of bytes; expected F32, F16 or BF16",
                      checkpoint_->config_.quantization ? "" : " where config.json has no quantization_config"),
          "F32, F16 or BF16", name_of(tensor.dtype));
    }
    const uint64_t panels = tensor.rows / panel_rows, blocks = tensor.columns / block_columns;
    if (panels != panels_of(spec.rows) || blocks != blocks_of(spec.columns)) {
      const std::string expected =
          format_text("[", panels_of(spec.rows), ", ", blocks_of(spec.columns), "] blocks for ", spec.formula, " = ",
                      shape_text(2, spec.rows, spec.columns));
      const std::string found = format_text("[", panels, ", ", blocks, "]");
      return Status(FINERMOE_ERROR_TENSOR_SHAPE,
                    format_text("tensor ", spec.name, " has ", found, " blocks; expected ", expected), expected, found);
    }
    tensor.rows = spec.rows;
    tensor.columns = spec.columns;
    return {};
  }

  // A tied model may store the embeddings under the name of its head only; if it has both, both are checked.
  Config find_head() {
    Config stored = checkpoint_->config_;
    if (!stored.tied_embeddings) return stored;
    const auto head = checkpoint_->index_.find(head_name);
    if (head == checkpoint_->index_.end()) return stored;
    if (foreign_.contains(embedding_name) || !checkpoint_->index_.emplace(embedding_name, head->second).second) {
      checkpoint_->tied_head_ = &checkpoint_->tensors_[head->second];
      stored.tied_embeddings = false;
    }
    return stored;
  }

  Result<std::shared_ptr<const Checkpoint>> finish() {
    const Config stored = find_head();
    FM_TRY(for_each_tensor(stored, [&](const TensorSpec& spec) { return check_tensor(spec); }));
    if (n_missing_ != 0) {
      if (has_adapter_tensors()) return adapter_error(checkpoint_->files_[0]->name());
      std::string more = n_missing_ > 3 ? format_text(" and ", n_missing_ - 3, " more") : "";
      return Status(FINERMOE_ERROR_TENSOR_MISSING, format_text("tensors are missing: ", missing_, more), missing_,
                    format_text(n_missing_, " missing"));
    }
    return std::shared_ptr<const Checkpoint>(std::move(checkpoint_));
  }

  const Checkpoint::Options& options_;
  std::shared_ptr<Checkpoint> checkpoint_{new Checkpoint};
  std::vector<uint64_t> ranks_;                                // of checkpoint_->tensors_
  std::unordered_map<std::string_view, std::string> foreign_;  // tensors of other dtypes, and those dtypes
  ShardIndex index_;                                           // empty where there is none
  std::unordered_set<std::string> needed_;                     // names; filled when first asked for
  uint64_t n_missing_ = 0;
  std::string missing_;  // the first three
};

Result<std::shared_ptr<const Checkpoint>> Checkpoint::open(const std::string& path, const Options& options) {
  FM_ASSIGN(File file, File::open(path));
  return CheckpointReader(options).read(std::move(file));
}

Result<std::shared_ptr<const Checkpoint>> Checkpoint::open_fd(int fd, const Options& options) {
  FM_ASSIGN(File file, File::duplicate(fd, format_text("the model of file descriptor ", fd)));
  return CheckpointReader(options).read(std::move(file));
}

Result<std::shared_ptr<const Checkpoint>> Checkpoint::open_memory(const void* data, size_t size,
                                                                  const Options& options) {
  return CheckpointReader(options).read_memory(data, size);
}

const Tensor* Checkpoint::find(std::string_view name) const {
  auto place = index_.find(name);
  return place == index_.end() ? nullptr : &tensors_[place->second];
}

FileRange Checkpoint::range_of(const Tensor& tensor) const {
  const auto begin = static_cast<uint64_t>(tensor.data - files_[tensor.file]->data());
  return {tensor.file, begin, begin + tensor.bytes()};
}

namespace {

// Compares values, whatever their types; for a block format, bytes.
bool are_equal(const Tensor& a, const Tensor& b) {
  if (a.dtype == b.dtype) return std::memcmp(a.data, b.data, a.bytes()) == 0;
  if (is_blocked(a.dtype) || is_blocked(b.dtype)) return false;
  for (uint64_t i = 0; i < a.elements(); i++) {
    if (load_element(a.dtype, a.data, i) != load_element(b.dtype, b.data, i)) return false;
  }
  return true;
}

}  // namespace

Result<Config> Checkpoint::resolved_config() const {
  Config resolved = config_;
  if (tied_head_ == nullptr) return resolved;
  const std::lock_guard lock(head_mutex_);
  if (!head_differs_) {
    FM_TRY(check_unchanged());
    head_differs_ = !are_equal(*tied_head_, *find(embedding_name));
  }
  resolved.tied_embeddings = !*head_differs_;
  return resolved;
}

Status Checkpoint::check_unchanged() const {
  for (const auto& file : files_) FM_TRY(file->check_unchanged());
  return {};
}

Result<std::optional<std::string>> Checkpoint::text(const std::string& file_name) const {
  if (directory_) return read_text(*directory_, file_name);
  return find_text(embedded_, file_name);
}

bool is_model_text(std::string_view name) {
  constexpr std::string_view texts[] = {
      "generation_config.json",  "chat_template.jinja", "chat_template.json", "added_tokens.json",
      "special_tokens_map.json", "vocab.json",          "merges.txt"};
  constexpr std::string_view beginnings[] = {"tokenizer", "LICENSE", "LICENCE", "COPYING", "NOTICE"};
  return std::find(std::begin(texts), std::end(texts), name) != std::end(texts) ||
         std::any_of(std::begin(beginnings), std::end(beginnings),
                     [&](std::string_view beginning) { return name.starts_with(beginning); });
}

Result<std::vector<std::string>> Checkpoint::text_names() const {
  std::vector<std::string> all, names;
  if (directory_) {
    FM_ASSIGN(all, directory_->list());
  } else {
    for (const auto& [name, text] : embedded_) all.push_back(name);
    std::sort(all.begin(), all.end());
  }
  for (std::string& name : all) {
    if (is_model_text(name)) names.push_back(std::move(name));
  }
  return names;
}

Result<std::optional<std::string>> read_model_text(const std::string& path, const std::string& file_name) {
  FM_ASSIGN(File file, File::open(path));
  if (file.is_directory()) return read_text(file, file_name);
  std::string_view own_name = path;
  own_name.remove_prefix(own_name.rfind('/') + 1);
  if (own_name.ends_with(".safetensors")) {
    FM_ASSIGN(Buffer text, read_header(file, std::make_shared<MemoryAccount>(0)));
    FM_ASSIGN(
        SafetensorsHeader header,
        SafetensorsHeader::parse(as_text(text), file.size() - safetensors_prefix_size - text.size(), file.name()));
    return find_text(embedded_texts(std::move(header.metadata)), file_name);
  }
  // A file of any name is taken for what was asked for, unless its name says that it is another text of a model.
  bool asked_for_main = file_name == "config.json" || file_name == "tokenizer.json";
  bool is_main = own_name == "config.json" || own_name == "tokenizer.json";
  if (own_name != file_name && (!asked_for_main || is_main)) return std::optional<std::string>();
  FM_ASSIGN(std::string text, file.read_all(max_text_size));
  return std::optional(std::move(text));
}

}  // namespace finermoe

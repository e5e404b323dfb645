#include "convert/writer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>

#include "base/allocation.h"
#include "base/json.h"
#include "format/checkpoint.h"

namespace finermoe {
namespace {

constexpr uint64_t buffer_bytes = 16 << 20;

// One safetensors file of the output.
struct Shard {
  std::string name;
  std::vector<const PlannedTensor*> tensors;
  std::string header;  // including the 8 bytes of its length
  uint64_t data_bytes = 0;
};

// A text as a JSON string; nullopt if it is not UTF-8 and so cannot be one.
std::optional<std::string> json_string(const std::string& text) {
  std::string out = Json(text).dump();
  const Result<Json> back = parse_json(out, "a text", FINERMOE_ERROR_INTERNAL);
  if (!back.ok() || *back != Json(text)) return std::nullopt;
  return out;
}

// The items of a shape's list.
std::string shape_of(const PlannedTensor& tensor) {
  if (is_blocked(tensor.dtype))
    return format_text(panels_of(tensor.rows), ",", blocks_of(tensor.columns), ",", block_bytes(tensor.dtype));
  return tensor.columns == 0 ? format_text(tensor.rows) : format_text(tensor.rows, ",", tensor.columns);
}

// The header of a shard whose tensors are contiguous. `metadata`: the members of a JSON object.
std::string make_header(const std::vector<const PlannedTensor*>& tensors, const std::string& metadata) {
  std::string text = format_text("{\"__metadata__\":{", metadata, "}");
  uint64_t offset = 0;
  for (const PlannedTensor* tensor : tensors) {
    text += format_text(",\"", tensor->name, "\":{\"dtype\":\"",
                        is_blocked(tensor->dtype) ? "U8" : name_of(tensor->dtype), "\",\"shape\":[", shape_of(*tensor));
    text += format_text("],\"data_offsets\":[", offset, ",", offset + tensor->bytes(), "]}");
    offset += tensor->bytes();
  }
  text += "}";
  text.append(63 - (8 + text.size() + 63) % 64, ' ');  // so that the data begins at a multiple of 64
  std::string header;
  for (int i = 0; i < 8; ++i) header += static_cast<char>(text.size() >> 8 * i & 0xff);
  return header + text;
}

// Tensors in order, starting a new shard when the next tensor would not fit. transformers rejects files without
// "format".
Result<std::vector<Shard>> plan_shards(const PlannedCheckpoint& checkpoint, uint64_t shard_size, bool single_file) {
  std::vector<Shard> shards(1);
  for (const PlannedTensor& tensor : checkpoint.tensors) {
    if (!single_file && !shards.back().tensors.empty() && shards.back().data_bytes + tensor.bytes() > shard_size)
      shards.emplace_back();
    shards.back().tensors.push_back(&tensor);
    shards.back().data_bytes += tensor.bytes();
  }
  std::string metadata = "\"format\":\"pt\"";
  auto embed = [&metadata](const std::string& name, const std::string& content) -> Status {
    std::optional<std::string> value = json_string(content);
    if (!value)
      return Status(FINERMOE_ERROR_UNSUPPORTED, format_text(name, " is not UTF-8, so a single file cannot carry it"),
                    "a directory as output", name);
    metadata += format_text(",", *json_string(format_text(embedded_prefix, name)), ":", *value);
    return {};
  };
  if (single_file) {
    FM_TRY(embed("config.json", checkpoint.config_json));
    for (const PlannedText& text : checkpoint.texts) FM_TRY(embed(text.name, text.content));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    Shard& shard = shards[i];
    char name[64] = "model.safetensors";
    if (shards.size() > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    shard.name = name;
    // Tensors with larger alignment come first: blocks have 32 bytes, elements their size.
    auto alignment = [](const PlannedTensor* tensor) {
      return is_blocked(tensor->dtype) ? 32 : size_of(tensor->dtype);
    };
    std::stable_sort(shard.tensors.begin(), shard.tensors.end(),
                     [&](auto* a, auto* b) { return alignment(a) > alignment(b); });
    shard.header = make_header(shard.tensors, metadata);
  }
  return shards;
}

std::string make_index(const std::vector<Shard>& shards) {
  Json index;
  uint64_t total = 0;
  for (const Shard& shard : shards) {
    total += shard.data_bytes;
    for (const PlannedTensor* tensor : shard.tensors) index["weight_map"][tensor->name] = shard.name;
  }
  index["metadata"]["total_size"] = total;
  return index.dump(2) + "\n";
}

// Fills one buffer while the previous one is being written.
class Writer {
 public:
  Writer(const PlannedCheckpoint& checkpoint, const WriterOptions& options, uint64_t total)
      : checkpoint_(checkpoint), progress_(options.progress), total_(total) {}

  Status allocate() {
    auto account = std::make_shared<MemoryAccount>(0);
    FM_ASSIGN(buffer_, Buffer::allocate(account, buffer_bytes, "the write buffer"));
    FM_ASSIGN(made_, Buffer::allocate(account, buffer_bytes, "the write buffer"));
    return {};
  }

  Status write_shard(const Shard& shard, NewFile& file) {
    offset_ = shard.header.size();
    for (const PlannedTensor* tensor : shard.tensors) {
      if (tensor->prepare) FM_TRY(tensor->prepare(pool_));
      for (uint64_t begin = 0; begin < tensor->items(); begin += tensor->part_items()) {
        const uint64_t end = std::min(begin + tensor->part_items(), tensor->items());
        const uint64_t bytes = (end - begin) * tensor->item_bytes();
        if (used_ + bytes > buffer_.size()) FM_TRY(flush(file));
        parts_.push_back({tensor, begin, end, buffer_.data() + used_});
        used_ += bytes;
      }
    }
    FM_TRY(flush(file));
    FM_TRY(flush(file));  // which writes what the first one produced
    FM_TRY(file.sync());
    FM_TRY(file.write(0, std::as_bytes(std::span(shard.header))));  // last, so that a truncated file is not valid
    FM_TRY(file.sync());
    return advance(shard.header.size());
  }
  Status write_text(const std::string& content, NewFile& file) {
    FM_TRY(file.write(0, std::as_bytes(std::span(content))));
    FM_TRY(file.sync());
    return advance(content.size());
  }
  Status finish() { return progress_.report("write", total_, total_); }

 private:
  struct Part {
    const PlannedTensor* tensor;
    uint64_t begin, end;
    std::byte* out;
  };

  Status flush(NewFile& file) {
    if (checkpoint_.check) FM_TRY(checkpoint_.check());
    Status written;
    pool_.run(1 + parts_.size(), [&](size_t i, size_t) {
      if (i == 0) {
        written = file.write(offset_, {made_.data(), made_used_});
      } else {
        const Part& part = parts_[i - 1];
        part.tensor->fill(part.begin, part.end, part.out);
      }
    });
    FM_TRY(std::move(written));
    offset_ += made_used_;
    FM_TRY(advance(made_used_));
    if (checkpoint_.check) FM_TRY(checkpoint_.check());
    std::swap(buffer_, made_);
    made_used_ = std::exchange(used_, 0);
    parts_.clear();
    return {};
  }
  // Reports about ten times a second; checks the cancel flag each time.
  Status advance(uint64_t bytes) {
    done_ += bytes;
    auto now = std::chrono::steady_clock::now();
    bool due = now - reported_at_ >= std::chrono::milliseconds(100) || done_ - reported_ >= 64 << 20;
    if (!due) return Progress{nullptr, nullptr, progress_.cancel}.report("write", done_, total_);
    reported_at_ = now;
    reported_ = done_;
    return progress_.report("write", done_, total_);
  }

  const PlannedCheckpoint& checkpoint_;
  const Progress& progress_;
  ThreadPool pool_{available_processors()};
  Buffer buffer_, made_;  // the second is waiting to be written
  uint64_t used_ = 0, made_used_ = 0;
  uint64_t offset_ = 0;  // in the file, of the next write
  std::vector<Part> parts_;
  uint64_t done_ = 0, total_ = 0, reported_ = 0;
  std::chrono::steady_clock::time_point reported_at_{};
};

}  // namespace

Status write_checkpoint(Staging staging, const PlannedCheckpoint& checkpoint, const WriterOptions& options) {
  if (options.shard_size == 0)
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "a shard needs at least 1 byte", "a shard size of 1 or more", "0");
  bool single_file = staging.is_single_file();
  FM_ASSIGN(std::vector<Shard> shards, plan_shards(checkpoint, options.shard_size, single_file));
  std::vector<PlannedText> texts;
  if (!single_file) {
    texts = checkpoint.texts;
    if (shards.size() > 1) texts.push_back({"model.safetensors.index.json", make_index(shards)});
  }
  uint64_t total = single_file ? 0 : checkpoint.config_json.size();
  for (const Shard& shard : shards) total += shard.header.size() + shard.data_bytes;
  for (const PlannedText& text : texts) total += text.content.size();

  FM_TRY(staging.begin(total));
  Writer writer(checkpoint, options, total);
  FM_TRY(writer.allocate());
  for (const Shard& shard : shards) {
    FM_ASSIGN(const auto file, staging.create(shard.name));
    FM_TRY(writer.write_shard(shard, *file));
  }
  for (const PlannedText& text : texts) {
    FM_ASSIGN(const auto file, staging.create(text.name));
    FM_TRY(writer.write_text(text.content, *file));
  }
  FM_TRY(writer.finish());  // the last chance to cancel
  return staging.publish("config.json", checkpoint.config_json);
}

}  // namespace finermoe

#include "format/shard_index.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "base/json.h"
#include "base/json_sax.h"

namespace finermoe {
namespace {

constexpr int max_depth = 64;

// Fills the tables while parsing: for 11,000 tensors, building a document in memory would take longer than all the
// rest.
class Handler : public JsonSax {
 public:
  Handler(std::string_view json, std::string_view name) : json_(json), name_(name) {}
  ShardIndex index;
  Status status;
  bool saw_map = false;

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t) override { return scalar(); }
  bool number_unsigned(number_unsigned_t) override { return scalar(); }
  bool number_float(number_float_t, const string_t&) override { return scalar(); }
  bool binary(binary_t&) override { return scalar(); }
  bool start_array(size_t) override { return depth_ == 0 || expects_map() || in_map_ ? scalar() : enter(); }
  bool end_array() override { return leave(); }

  bool string(string_t& value) override {
    if (!in_map_) return scalar();
    auto [place, is_new] = files_.try_emplace(std::move(value), static_cast<uint32_t>(index.files.size()));
    if (is_new) index.files.push_back(place->first);
    index.tensors.back().second = place->second;
    return true;
  }
  bool start_object(size_t) override {
    if (in_map_) return scalar();
    in_map_ = expects_map();
    return enter();
  }
  bool key(string_t& name) override {
    if (in_map_) {
      index.tensors.emplace_back(std::move(name), 0);
      return true;
    }
    if (depth_ != 1) return true;
    at_map_ = name == "weight_map";
    if (at_map_ && saw_map) return fail("a second weight_map");
    saw_map = saw_map || at_map_;
    return true;
  }
  bool end_object() override {
    in_map_ = false;
    return leave();
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status = json_error(json_, name_, FINERMOE_ERROR_INDEX_MALFORMED, position);
    return false;
  }

 private:
  bool fail(std::string_view found) {
    status = Status(FINERMOE_ERROR_INDEX_MALFORMED,
                    format_text(name_, ": ", found, " where file names by tensor are expected"),
                    "a weight_map of file names", std::string(found));
    return false;
  }
  bool expects_map() const { return depth_ == 1 && at_map_; }
  bool scalar() { return depth_ == 0 || in_map_ || expects_map() ? fail("another value") : true; }
  bool enter() { return ++depth_ <= max_depth || fail("nesting deeper than 64"); }
  bool leave() {
    depth_--;
    return true;
  }

  const std::string_view json_, name_;
  std::unordered_map<std::string, uint32_t> files_;
  int depth_ = 0;
  bool at_map_ = false, in_map_ = false;
};

bool has_duplicates(const std::vector<std::pair<std::string, uint32_t>>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& [name, file] : tensors) names.push_back(name);
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

void sort_files(ShardIndex& index) {
  std::vector<uint32_t> order(index.files.size()), rank(index.files.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return index.files[a] < index.files[b]; });
  for (uint32_t i = 0; i < order.size(); i++) rank[order[i]] = i;
  for (auto& [name, file] : index.tensors) file = rank[file];
  std::sort(index.files.begin(), index.files.end());
}

}  // namespace

void ShardIndex::erase(uint32_t file) {
  files.erase(files.begin() + file);
  std::erase_if(tensors, [file](const auto& tensor) { return tensor.second == file; });
  for (auto& [name, other] : tensors) other -= other > file;
}

Result<ShardIndex> ShardIndex::parse(std::string_view json, std::string_view name) {
  Handler handler(json, name);
  if (!parse_json_events(json.begin(), json.end(), &handler)) return handler.status;
  const char* wrong = nullptr;
  if (handler.index.tensors.empty()) wrong = "no weight_map that names files";
  if (has_duplicates(handler.index.tensors)) wrong = "a tensor appears twice in the weight_map";
  if (wrong) {
    return Status(FINERMOE_ERROR_INDEX_MALFORMED, format_text(name, ": ", wrong), "a weight_map with each tensor once",
                  wrong);
  }
  sort_files(handler.index);
  return std::move(handler.index);
}

}  // namespace finermoe

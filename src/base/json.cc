#include "base/json.h"

#include <vector>

namespace finermoe {
namespace {

constexpr size_t max_depth = 64;
constexpr uint64_t max_size = 256 << 20;

// Builds the document; an object that holds a key twice, or nests too deep, ends it.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view name, Code code) : name_(name), code_(code) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not in JSON texts
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [place, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    value_of_key_ = &place->second;
    if (!is_new) {
      status = Status(code_, cat(name_, ": the key \"", place->first, "\" stands twice in one object"), "each key once",
                      place->first);
    }
    return is_new;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status = json_error(name_, code_, position);
    return false;
  }

  Json root;
  Status status;

 private:
  template <class T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  // Puts a value where the text has it. Its address holds while it is open: its parent only grows after it is closed.
  Json* place(Json value) {
    if (open_.empty()) return &(root = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &(*value_of_key_ = std::move(value));
  }
  bool open(Json container) {
    if (open_.size() == max_depth) {
      status =
          Status(code_, cat(name_, ": nested deeper than ", max_depth), cat("depth at most ", max_depth), "deeper");
      return false;
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string_view name_;
  const Code code_;
  std::vector<Json*> open_;
  Json* value_of_key_ = nullptr;
};

}  // namespace

Status json_error(std::string_view name, Code code, size_t position) {
  return Status(code, cat(name, ": not JSON at byte ", position), "JSON", cat("an error at byte ", position));
}

Result<Json> parse_json(std::string_view text, std::string_view name, Code code) {
  if (text.size() > max_size) {
    return Status(code, cat(name, " has ", text.size(), " bytes, more than ", max_size),
                  cat("at most ", max_size, " bytes"), cat(text.size(), " bytes"));
  }
  Builder builder(name, code);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return builder.status.ok() ? json_error(name, code, 0) : builder.status;
  }
  return std::move(builder.root);
}

}  // namespace finermoe

#include "base/json.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace finermoe {
namespace {

constexpr size_t max_depth = 64;
constexpr uint64_t max_size = 256 << 20;

// Builds the document; one that nests too deep ends it.
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
    value_of_key_ = &open_.back()->get_ref<Json::object_t&>()[std::move(name)];
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_position = position;
    return false;
  }

  Json root;
  Status status;
  std::optional<size_t> error_position;  // of a syntax error

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

// A text whose bare NaN, Infinity and -Infinity are objects.
class TaggedFloats {
 public:
  explicit TaggedFloats(std::string_view from) {
    for (bool in_string = false; !from.empty();) {
      const std::string_view literal = in_string ? "" : literal_at(from);
      if (!literal.empty()) {
        text_.append(before).append(literal).append(after);
        ends_.push_back(text_.size());
        from.remove_prefix(literal.size());
        continue;
      }
      const size_t n = in_string && from[0] == '\\' && from.size() > 1 ? 2 : 1;  // an escaped quote ends no string
      if (from[0] == '"') in_string = !in_string;
      text_.append(from.substr(0, n));
      from.remove_prefix(n);
    }
  }
  const std::string& text() const { return text_; }
  bool has_any() const { return !ends_.empty(); }
  // Where the original has what is at `position`.
  size_t original(size_t position) const {
    const auto n = std::upper_bound(ends_.begin(), ends_.end(), position) - ends_.begin();
    return position - static_cast<size_t>(n) * (before.size() + after.size());
  }

 private:
  static constexpr std::string_view before = "{\"__float__\":\"", after = "\"}";

  static std::string_view literal_at(std::string_view text) {
    for (std::string_view literal : {"NaN", "Infinity", "-Infinity"}) {
      if (text.starts_with(literal)) return literal;
    }
    return {};
  }

  std::string text_;
  std::vector<size_t> ends_;  // of the objects, ascending
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
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root);
  if (!builder.error_position) return builder.status;
  const TaggedFloats tagged(text);
  if (!tagged.has_any()) return json_error(name, code, *builder.error_position);
  Builder second(name, code);
  if (Json::sax_parse(tagged.text().begin(), tagged.text().end(), &second)) return std::move(second.root);
  return second.error_position ? json_error(name, code, tagged.original(*second.error_position)) : second.status;
}

}  // namespace finermoe

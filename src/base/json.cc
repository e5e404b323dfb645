#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/foreign_file.h"
#include "base/json_sax.h"
#include "base/utf8.h"

namespace finermoe {

namespace {

constexpr size_t max_depth = 64;
constexpr uint64_t max_size = 256 << 20;

}  // namespace

// Builds the document; stops at one that is nested too deeply. If a key appears twice, the last value counts.
class JsonBuilder : public JsonSax {
 public:
  JsonBuilder(std::string_view text, std::string_view name, Code code) : text_(text), name_(name), code_(code) {}

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }  // not in JSON texts
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    value_of_key_ = &std::get<Json::Object>(open_.back()->value_)[std::move(name)];
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
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  // Puts a value where the text has it. Its address is stable while it is open: its parent grows only after it is
  // closed.
  Json* place(Json value) {
    if (open_.empty()) return &(root = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->push_back(std::move(value));
    return &(*value_of_key_ = std::move(value));
  }
  bool open(Json container) {
    if (open_.size() == max_depth) {
      status = Status(code_, format_text(name_, ": nested deeper than ", max_depth),
                      format_text("depth at most ", max_depth), "deeper");
      return false;
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string_view text_, name_;
  const Code code_;
  std::vector<Json*> open_;
  Json* value_of_key_ = nullptr;
};

namespace {

// A copy of a text in which bare NaN, Infinity and -Infinity are replaced by objects.
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
      const size_t n = in_string && from[0] == '\\' && from.size() > 1 ? 2 : 1;  // skips an escaped quote
      if (from[0] == '"') in_string = !in_string;
      text_.append(from.substr(0, n));
      from.remove_prefix(n);
    }
  }
  const std::string& text() const { return text_; }
  bool has_any() const { return !ends_.empty(); }
  // The position in the original text of what is at `position` here.
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

void append_escape(std::string& out, uint32_t unit) {
  char digits[] = "\\u0000";
  for (int i = 0; i < 4; i++) digits[5 - i] = "0123456789abcdef"[unit >> 4 * i & 15];
  out += digits;
}

void append_string(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  while (!text.empty()) {
    const Decoded next = decode_utf8(text, 0);  // U+FFFD stands for a byte that does not begin a UTF-8 character
    const uint32_t character = next.code_point;
    const std::string_view bytes = text.substr(0, next.valid ? next.size : 1);
    text.remove_prefix(bytes.size());
    static constexpr std::string_view special = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
    if (const size_t i = character < 0x80 ? special.find(static_cast<char>(character)) : special.npos;
        i != special.npos) {
      (out += '\\') += letters[i];
    } else if (character < 0x20 || (ascii && character >= 0x7f && character < 0x10000)) {
      append_escape(out, character);
    } else if (ascii && character >= 0x10000) {
      append_escape(out, 0xd7c0 + (character >> 10));
      append_escape(out, 0xdc00 + (character & 0x3ff));
    } else if (!next.valid) {
      append_utf8(kReplacement, out);
    } else {
      out += bytes;
    }
  }
  out += '"';
}

// Like Python's repr: the shortest digits that round-trip.
void append_float(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const double size = std::abs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  char digits[64];
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const char* end = std::to_chars(digits, digits + sizeof digits, value, format).ptr;
  const std::string_view text(digits, static_cast<size_t>(end - digits));
  out += text;
  if (plain && text.find('.') == text.npos) out += ".0";
}

struct Style {
  int indent;  // -1: one line
  bool ascii;
};

void append(std::string& out, const Json& value, Style style, int level);

// A list or an object: `append_item` for each item.
template <class Items, class AppendItem>
void append_items(std::string& out, const Items& items, std::string_view brackets, Style style, int level,
                  AppendItem append_item) {
  const auto new_line = [&](int depth) {
    if (style.indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(style.indent * depth), ' ');
  };
  out += brackets[0];
  bool is_first = true;
  for (const auto& item : items) {
    if (!is_first) out += ',';
    is_first = false;
    new_line(level + 1);
    append_item(item);
  }
  if (!is_first) new_line(level);
  out += brackets[1];
}

void append(std::string& out, const Json& value, Style style, int level) {
  if (value.is_null()) {
    out += "null";
  } else if (value.is_boolean()) {
    out += value.get<bool>() ? "true" : "false";
  } else if (value.is_number_unsigned()) {
    append_text(out, value.get<uint64_t>());
  } else if (value.is_number_integer()) {
    append_text(out, value.get<int64_t>());
  } else if (value.is_number()) {
    append_float(out, value.get<double>());
  } else if (value.is_string()) {
    append_string(out, value.get_ref<const std::string&>(), style.ascii);
  } else if (value.is_array()) {
    append_items(out, value, "[]", style, level, [&](const Json& one) { append(out, one, style, level + 1); });
  } else {
    append_items(out, value.items(), "{}", style, level, [&](const auto& member) {
      append_string(out, member.first, style.ascii);
      out += style.indent < 0 ? ":" : ": ";
      append(out, member.second, style, level + 1);
    });
  }
}

}  // namespace

Json::Json() noexcept = default;
Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

const char* Json::type_name() const {
  constexpr const char* names[] = {"null", "boolean", "number", "number", "number", "string", "array", "object"};
  return names[value_.index()];
}

size_t Json::size() const {
  if (is_array()) return std::get<Array>(value_).size();
  return is_object() ? std::get<Object>(value_).size() : 0;
}

Json& Json::push_back(Json element) {
  if (is_null()) value_.emplace<Array>();
  return std::get<Array>(value_).emplace_back(std::move(element));
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  const auto place = items().find(key);
  return place == items().end() ? nullptr : &place->second;
}

const Json& Json::operator[](std::string_view key) const {
  static const Json null;
  const Json* member = find(key);
  return member ? *member : null;
}

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_.emplace<Object>();
  auto& members = std::get<Object>(value_);
  const auto place = members.find(key);
  return place != members.end() ? place->second : members[std::string(key)];
}

void Json::erase(std::string_view key) {
  auto& members = std::get<Object>(value_);
  if (const auto place = members.find(key); place != members.end()) members.erase(place);
}

bool operator==(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number() && a.is_number_float() != b.is_number_float()) {
    return a.get<double>() == b.get<double>();
  }
  return a.value_ == b.value_;
}

std::string Json::dump(int indent) const {
  std::string out;
  append(out, *this, {indent, false}, 0);
  return out;
}

std::string Json::show() const {
  std::string out;
  append(out, *this, {-1, true}, 0);
  return out;
}

Status json_error(std::string_view text, std::string_view name, Code code, size_t position) {
  if (const auto foreign = recognise_foreign_file(text)) return foreign_file_error(*foreign, name, code, "JSON");
  return Status(code, format_text(name, ": not JSON at byte ", position), "JSON",
                format_text("an error at byte ", position));
}

Result<Json> parse_json(std::string_view text, std::string_view name, Code code) {
  if (text.size() > max_size) {
    return Status(code, format_text(name, " has ", text.size(), " bytes, more than ", max_size),
                  format_text("at most ", max_size, " bytes"), format_text(text.size(), " bytes"));
  }
  JsonBuilder builder(text, name, code);
  if (parse_json_events(text.begin(), text.end(), &builder)) return std::move(builder.root);
  if (!builder.error_position) return builder.status;
  const TaggedFloats tagged(text);
  if (!tagged.has_any()) return json_error(text, name, code, *builder.error_position);
  JsonBuilder second(text, name, code);
  const std::string& again = tagged.text();
  if (parse_json_events(again.begin(), again.end(), &second)) return std::move(second.root);
  return second.error_position ? json_error(text, name, code, tagged.original(*second.error_position)) : second.status;
}

}  // namespace finermoe

// JSON that may be hostile: bounded in size and depth, errors as values. Accepts what Python's json module accepts,
// since that is what writes such files: if a key appears twice, the last value counts, and a bare NaN, Infinity or
// -Infinity becomes the object that transformers 5 writes in its place, {"__float__": "NaN"}.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace finermoe {

// A JSON value. Moving and destroying one neither allocate nor throw, so both are safe while a std::bad_alloc is being
// handled. The destructor recurses as deep as the value nests, which is bounded. (nlohmann::json allocates in its
// destructor, so it is used only as the parser, base/json_sax.h.)
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  Json() noexcept;  // null
  Json(std::nullptr_t) noexcept : Json() {}
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();
  template <std::same_as<bool> T>
  Json(T value) : value_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T value) : value_(integer(value)) {}
  Json(double value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(std::initializer_list<Json>) = delete;  // is {"a"} a list or a string? array() says which
  static Json array(std::initializer_list<Json> elements = {}) { return Json(Array(elements)); }
  static Json object(std::initializer_list<std::pair<const std::string, Json>> members = {}) {
    Json out;
    out.value_.emplace<Object>(members);
    return out;
  }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_boolean() const { return std::holds_alternative<bool>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  bool is_number() const { return is_number_integer() || is_number_float(); }
  bool is_number_float() const { return std::holds_alternative<double>(value_); }
  bool is_number_integer() const { return is_number_unsigned() || std::holds_alternative<int64_t>(value_); }
  bool is_number_unsigned() const { return std::holds_alternative<uint64_t>(value_); }  // a non-negative integer
  const char* type_name() const;  // "null", "boolean", "number", "string", "array", "object"

  // The value, which must be of that type; a number can be read as any number type.
  template <class T>
  T get() const {
    if constexpr (std::is_arithmetic_v<T> && !std::same_as<T, bool>) {
      if (const auto* positive = std::get_if<uint64_t>(&value_)) return static_cast<T>(*positive);
      if (const auto* negative = std::get_if<int64_t>(&value_)) return static_cast<T>(*negative);
      return static_cast<T>(std::get<double>(value_));
    } else {
      return std::get<T>(value_);
    }
  }
  template <class T>
  T get_ref() const {
    return std::get<std::remove_cvref_t<T>>(value_);
  }

  // Elements of a list or members of an object; 0 for other types.
  size_t size() const;
  bool empty() const { return size() == 0; }
  // The elements of a list; empty for other types.
  const Json* begin() const { return is_array() ? std::get<Array>(value_).data() : nullptr; }
  const Json* end() const { return is_array() ? begin() + size() : nullptr; }
  template <std::integral Index>
  const Json& operator[](Index index) const {
    return std::get<Array>(value_)[static_cast<size_t>(index)];
  }
  const Json& front() const { return (*this)[0]; }
  const Json& back() const { return (*this)[size() - 1]; }
  Json& push_back(Json element);  // null becomes a list

  // A member of an object; nullptr (which is end()) if there is none or this is not an object.
  const Json* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const Json& operator[](std::string_view key) const;  // null where there is none
  const Json& operator[](const char* key) const { return (*this)[std::string_view(key)]; }
  Json& operator[](std::string_view key);  // created if there is none; null becomes an object
  Json& operator[](const char* key) { return (*this)[std::string_view(key)]; }
  void erase(std::string_view key);
  const Object& items() const { return std::get<Object>(value_); }

  friend bool operator==(const Json& a, const Json& b);  // numbers by value: 0 and 0.0 are equal

  // The JSON text. Keys keep their order, numbers are written as Python does, bytes that are not UTF-8 become U+FFFD.
  std::string dump(int indent = -1) const;  // -1: on one line; otherwise spaces per level
  std::string show() const;                 // on one line of ASCII, for messages

 private:
  friend class JsonBuilder;
  using Value = std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object>;

  template <class T>
  static Value integer(T value) {
    if (std::cmp_less(value, 0)) return static_cast<int64_t>(value);
    return static_cast<uint64_t>(value);
  }

  Value value_;  // an integer is an int64_t only where it is negative
};

// `code` is the error for text that is not such JSON; `name` is its name in messages.
Result<Json> parse_json(std::string_view text, std::string_view name, Code code);

// A one-line message about a syntax error at `position`, saying what the text is instead, if that can be told. The
// parser's own message is not used: it quotes the input, which may be anything.
Status json_error(std::string_view text, std::string_view name, Code code, size_t position);

}  // namespace finermoe

// JSON that may be hostile: bounded in size and depth, errors as values. What Python's json module takes is taken,
// since such files are its work: of a key that appears twice the last value counts, and a bare NaN, Infinity or
// -Infinity is the object that transformers 5 writes in its place, {"__float__": "NaN"}.
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

// A JSON value. Moving one and destroying one allocate nothing and throw nothing, also while an exception for want of
// memory passes by; the destructor goes down as deep as the value nests, of which there is a bound. (nlohmann::json
// allocates in its destructor: it serves as the parser only, base/json_sax.h.)
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
  bool is_number_unsigned() const { return std::holds_alternative<uint64_t>(value_); }  // an integer from 0 on
  const char* type_name() const;  // "null", "boolean", "number", "string", "array", "object"

  // The value, which must be of that type; a number as any type of number.
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

  // Elements of a list or members of an object; 0 of others.
  size_t size() const;
  bool empty() const { return size() == 0; }
  // The elements of a list; none of others.
  const Json* begin() const { return is_array() ? std::get<Array>(value_).data() : nullptr; }
  const Json* end() const { return is_array() ? begin() + size() : nullptr; }
  template <std::integral Index>
  const Json& operator[](Index index) const {
    return std::get<Array>(value_)[static_cast<size_t>(index)];
  }
  const Json& front() const { return (*this)[0]; }
  const Json& back() const { return (*this)[size() - 1]; }
  Json& push_back(Json element);  // null becomes a list

  // A member of an object; nullptr (which is end()) where there is none, or no object.
  const Json* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const Json& operator[](std::string_view key) const;  // null where there is none
  const Json& operator[](const char* key) const { return (*this)[std::string_view(key)]; }
  Json& operator[](std::string_view key);  // made where there is none; null becomes an object
  Json& operator[](const char* key) { return (*this)[std::string_view(key)]; }
  void erase(std::string_view key);
  const Object& items() const { return std::get<Object>(value_); }

  friend bool operator==(const Json& a, const Json& b);  // numbers by value: 0 and 0.0 are equal

  // The text. Keys are in their order, numbers as Python writes them, bytes that are not UTF-8 replaced by U+FFFD.
  std::string dump(int indent = -1) const;  // -1: all in one line; else that many spaces for each level
  std::string show() const;                 // in one line of ASCII, for messages

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

// `code` is the error of a text that is not such JSON, `name` stands for it in messages.
Result<Json> parse_json(std::string_view text, std::string_view name, Code code);

// One line about a text that has a syntax error at `position`: what it is instead, where that shows. the
// parser's own message quotes the input, which may be anything.
Status json_error(std::string_view text, std::string_view name, Code code, size_t position);

}  // namespace finermoe

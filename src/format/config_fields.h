// The members of a JSON object, read with their type and range; null counts as absent.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace finermoe {

class Fields {
 public:
  // The members of `object`; `name` is its name in messages. Both must outlive the fields.
  Fields(const Json& object, std::string_view name) : object_(object), name_(name) {}

  const Json* find(std::string_view key) const {
    auto place = object_.find(key);
    return place == object_.end() || place->is_null() ? nullptr : &*place;
  }

  // Whether the key is present with the value null, where that differs in meaning from an absent key.
  bool is_null(std::string_view key) const {
    const Json* value = object_.find(key);
    return value != nullptr && value->is_null();
  }

  Status missing(std::string_view key) const {
    return Status(FINERMOE_ERROR_CONFIG_MISSING, format_text(name_, ": \"", key, "\" is missing"), std::string(key),
                  "nothing");
  }
  Status wrong(std::string_view key, std::string_view expected) const {
    const Json* value = find(key);
    std::string found = value ? value->show() : "nothing";
    if (found.size() > 80) found = format_text(std::string_view(found).substr(0, 80), "…");
    return Status(FINERMOE_ERROR_CONFIG_VALUE,
                  format_text(name_, ": \"", key, "\" must be ", expected, ", and is ", found), std::string(expected),
                  found);
  }

  // For absent values returns `otherwise`, or an error if that is not given.
  Result<uint64_t> get_uint(std::string_view key, uint64_t least, uint64_t most,
                            std::optional<uint64_t> otherwise = {}) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise ? Result<uint64_t>(*otherwise) : missing(key);
    if (!value->is_number_unsigned() || value->get<uint64_t>() < least || value->get<uint64_t>() > most) {
      return wrong(key, format_text("a whole number from ", least, " to ", most));
    }
    return value->get<uint64_t>();
  }
  // Of either sign.
  Result<int64_t> get_int(std::string_view key, int64_t otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= INT64_MAX : value->is_number_integer();
    if (!fits) return wrong(key, "a whole number");
    return value->get<int64_t>();
  }
  Result<double> get_double(std::string_view key, double least, double most,
                            std::optional<double> otherwise = {}) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise ? Result<double>(*otherwise) : missing(key);
    if (!value->is_number() || !(value->get<double>() >= least && value->get<double>() <= most)) {
      return wrong(key, format_text("a number from ", least, " to ", most));
    }
    return value->get<double>();
  }
  Result<bool> get_bool(std::string_view key, bool otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return wrong(key, "true or false");
    return value->get<bool>();
  }
  Result<std::string> get_string(std::string_view key, std::optional<std::string> otherwise = {}) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise ? Result<std::string>(*otherwise) : missing(key);
    if (!value->is_string()) return wrong(key, "a string");
    return value->get<std::string>();
  }

 private:
  const Json& object_;
  const std::string_view name_;
};

}  // namespace finermoe

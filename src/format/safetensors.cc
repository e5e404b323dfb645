#include "format/safetensors.h"

#include <algorithm>
#include <numeric>

#include "base/foreign_file.h"
#include "base/json.h"
#include "base/json_sax.h"

namespace finermoe {
namespace {

constexpr uint64_t max_header_size = 512 << 20;

// Feeds nlohmann's parser from `*at`, so that a handler knows where in the text the parser is.
struct Cursor {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  const char** at;
  reference operator*() const { return **at; }
  Cursor& operator++() {
    ++*at;
    return *this;
  }
  bool operator==(const Cursor& other) const { return *at == *other.at; }
};

// Element size of safetensors types that we do not compute with; 0: unknown.
uint64_t size_of_foreign(std::string_view dtype) {
  for (std::string_view name : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"}) {
    if (dtype == name) return 1;
  }
  if (dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I32" || dtype == "U32") return 4;
  return dtype == "I64" || dtype == "U64" || dtype == "F64" ? 8 : 0;
}

// {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, …, "__metadata__": {"key": "value", …}}
class Handler : public JsonSax {
 public:
  Handler(std::string_view json, uint64_t data_size, std::string_view file_name)
      : json_(json), data_size_(data_size), file_name_(file_name) {}

  Status run() {
    const char* end = json_.data() + json_.size();
    bool good = parse_json_events(Cursor{&at_}, Cursor{&end}, this);
    return good ? Status() : status_;
  }
  SafetensorsHeader header;

  bool null() override { return place_ == Place::top && in_metadata_ ? true : unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool number_integer(number_integer_t) override { return bad_number(); }
  bool number_float(number_float_t, const string_t&) override { return bad_number(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::offsets) {
      if (n_offsets_ == 2) return malformed("more than two data_offsets");
      (n_offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    if (place_ != Place::shape) return unexpected("a number");
    if (entry_.rank < 3) (entry_.rank == 0 ? entry_.rows : entry_.rank == 1 ? entry_.columns : block_) = value;
    entry_.rank++;
    if (__builtin_mul_overflow(elements_, value, &elements_)) return bad_number();
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata) {
      header.metadata.back().second = std::move(text);
      return true;
    }
    if (place_ != Place::tensor || field_ != dtype_field) return unexpected("a string");
    for (DType dtype : {DType::bf16, DType::f16, DType::f32}) {
      if (text == name_of(dtype)) entry_.dtype = dtype;
    }
    if (!entry_.dtype) entry_.dtype_name = std::move(text);
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::start) return go(Place::top);
    if (place_ != Place::top) return unexpected("an object");
    return go(in_metadata_ ? Place::metadata : Place::tensor);
  }

  bool key(string_t& name) override {
    if (place_ == Place::top) return top_key(name);
    if (place_ == Place::metadata) {
      header.metadata.emplace_back(std::move(name), "");
      return true;
    }
    field_ = name == "dtype" ? dtype_field : name == "shape" ? shape_field : name == "data_offsets" ? offsets_field : 0;
    if (field_ == 0) return malformed("a key of a tensor that is none of dtype, shape, data_offsets");
    if (fields_seen_ & field_) return malformed("a key of a tensor that appears twice");
    fields_seen_ |= field_;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor && !finish_tensor()) return false;
    if (place_ == Place::metadata && !finish_metadata()) return false;
    return go(place_ == Place::top ? Place::end : Place::top);
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || (field_ != shape_field && field_ != offsets_field)) return unexpected("a list");
    return go(field_ == shape_field ? Place::shape : Place::offsets);
  }

  bool end_array() override {
    if (place_ == Place::offsets && n_offsets_ != 2) return malformed("fewer than two data_offsets");
    return go(Place::tensor);
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status_ = json_error(json_, format_text(file_name_, ": header"), FINERMOE_ERROR_HEADER_MALFORMED, position);
    return false;
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };
  static constexpr unsigned dtype_field = 1, shape_field = 2, offsets_field = 4;

  bool go(Place place) {
    place_ = place;
    return true;
  }
  bool fail(Code code, std::string message, std::string expected, std::string found) {
    status_ = Status(code, format_text(file_name_, ": ", message), std::move(expected), std::move(found));
    return false;
  }
  bool malformed(std::string_view found) {
    return fail(FINERMOE_ERROR_HEADER_MALFORMED, format_text("header: ", found, " at byte ", at_ - json_.data()),
                "dtype, shape and data_offsets of each tensor", std::string(found));
  }
  bool unexpected(std::string_view value) { return malformed(format_text(value, " out of place")); }
  bool bad_number() {
    if (place_ != Place::shape && place_ != Place::offsets) return unexpected("a number");
    return fail(
        FINERMOE_ERROR_OFFSETS_INVALID,
        format_text("tensor ", entry_.name, ": its shape or data_offsets are negative, fractional or too large"),
        "whole numbers below 2^64", "another number");
  }

  // The key has just been read: unless it has escapes, its text ends right before the quote before at_.
  bool top_key(string_t& name) {
    in_metadata_ = name == "__metadata__";
    if (in_metadata_) return saw_metadata_ ? malformed("a second __metadata__") : (saw_metadata_ = true);
    entry_ = {};
    elements_ = 1;
    block_ = 0;
    n_offsets_ = fields_seen_ = 0;
    std::string_view before = json_.substr(0, static_cast<size_t>(at_ - json_.data()) - 1);
    if (before.ends_with(name) && before[before.size() - name.size() - 1] == '"') {
      entry_.name = before.substr(before.size() - name.size());
    } else {
      entry_.name = header.escaped_names.emplace_back(std::move(name));
    }
    return true;
  }

  bool finish_metadata() {
    std::vector<std::string_view> keys;
    for (const auto& [key, value] : header.metadata) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) return malformed("a key of __metadata__ twice");
    return true;
  }

  bool finish_tensor() {
    if (fields_seen_ != (dtype_field | shape_field | offsets_field)) return malformed("a tensor that lacks a key");
    if (entry_.begin > entry_.end) {
      return fail(
          FINERMOE_ERROR_OFFSETS_INVALID,
          format_text("tensor ", entry_.name, ": its data begins at ", entry_.begin, " and ends at ", entry_.end),
          format_text("an end of at least ", entry_.begin), format_text(entry_.end));
    }
    uint64_t element = entry_.dtype ? size_of(*entry_.dtype) : size_of_foreign(entry_.dtype_name);
    uint64_t bytes = 0, found = entry_.end - entry_.begin;
    if (element != 0 && (__builtin_mul_overflow(elements_, element, &bytes) || bytes != found)) {
      return fail(FINERMOE_ERROR_OFFSETS_INVALID,
                  format_text("tensor ", entry_.name, ": ", elements_, " elements of ", element,
                              " bytes do not fill the ", found, " bytes between its data_offsets"),
                  format_text(elements_, " * ", element, " bytes"), format_text(found, " bytes"));
    }
    if (entry_.end > data_size_) {
      return fail(
          FINERMOE_ERROR_DATA_TRUNCATED,
          format_text("tensor ", entry_.name, " ends at byte ", entry_.end, " of the data, which has ", data_size_),
          format_text("at least ", entry_.end, " bytes of data"), format_text(data_size_, " bytes"));
    }
    // Bytes (U8) of shape [panels, blocks per panel, bytes per block] are a matrix in a block format.
    const bool blocked = entry_.rank == 3 && entry_.dtype_name == "U8" && elements_ != 0;
    if (blocked && (block_ == q8_block_bytes || block_ == q4_block_bytes)) {
      entry_.dtype = block_ == q8_block_bytes ? DType::q8 : DType::q4;
      entry_.rank = 2;
      entry_.rows *= panel_rows;
      entry_.columns *= block_columns;
    }
    if (entry_.rank != 2 || elements_ == 0) {
      entry_.rows = elements_;
      entry_.columns = 0;
    }
    header.entries.push_back(std::move(entry_));
    return true;
  }

  const std::string_view json_;
  const uint64_t data_size_;
  const std::string_view file_name_;
  const char* at_ = json_.data();
  Status status_;
  Place place_ = Place::start;
  bool in_metadata_ = false, saw_metadata_ = false;
  SafetensorsEntry entry_;  // the tensor being read, like the next four
  uint64_t elements_ = 1, block_ = 0;
  unsigned n_offsets_ = 0, fields_seen_ = 0;
  unsigned field_ = 0;
};

Status check_overlap(const std::vector<SafetensorsEntry>& entries, std::string_view file_name) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(entries[a].begin, entries[a].end) < std::pair(entries[b].begin, entries[b].end);
  });
  for (size_t i = 1; i < order.size(); i++) {
    const SafetensorsEntry &a = entries[order[i - 1]], &b = entries[order[i]];
    if (b.begin >= a.end) continue;
    return Status(FINERMOE_ERROR_OFFSETS_OVERLAP,
                  format_text(file_name, ": tensor ", b.name, " begins at byte ", b.begin,
                              " of the data, inside tensor ", a.name, ", which ends at ", a.end),
                  format_text("an offset of at least ", a.end), format_text(b.begin));
  }
  return {};
}

// Whether a text ends before the JSON object it begins with is complete.
bool is_cut_off(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  if (!text.empty() && text[0] != '{') return false;
  for (size_t i = 0; i < text.size(); i++) {
    if (in_string) {
      if (text[i] == '\\') {
        i++;
      } else if (text[i] == '"') {
        in_string = false;
      }
    } else if (text[i] == '"') {
      in_string = true;
    } else if (text[i] == '{') {
      depth++;
    } else if (text[i] == '}' && --depth == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<SafetensorsHeader> SafetensorsHeader::parse(std::string_view json, uint64_t data_size,
                                                   std::string_view file_name) {
  Handler handler(json, data_size, file_name);
  FM_TRY(handler.run());
  FM_TRY(check_overlap(handler.header.entries, file_name));
  return std::move(handler.header);
}

Result<uint64_t> safetensors_header_size(std::span<const std::byte> beginning, uint64_t file_size,
                                         std::string_view file_name,
                                         FunctionRef<Result<std::string>(uint64_t size)> read_text) {
  const std::string_view text_beginning(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  const auto foreign = recognise_foreign_file(text_beginning);
  if (file_size < safetensors_prefix_size && !foreign) {
    return Status(FINERMOE_ERROR_HEADER_TRUNCATED,
                  format_text(file_name, " has ", file_size,
                              " bytes, and a safetensors file begins with the 8 of its header's length"),
                  "at least 8 bytes", format_text(file_size, " bytes"));
  }
  uint64_t size = 0, room = file_size - std::min(file_size, safetensors_prefix_size);
  for (size_t i = std::min<size_t>(safetensors_prefix_size, beginning.size()); i-- > 0;) {
    size = size << 8 | std::to_integer<uint64_t>(beginning[i]);
  }
  const bool fits = size <= room && size <= max_header_size;
  const bool is_json =
      text_beginning.size() > safetensors_prefix_size && text_beginning[safetensors_prefix_size] == '{';
  if (foreign && !(fits && is_json)) {
    return foreign_file_error(*foreign, file_name, FINERMOE_ERROR_HEADER_MALFORMED, "a safetensors file");
  }
  if (fits) return size;
  bool cut_off = false;
  if (size <= max_header_size) {
    Result<std::string> text = read_text(room);
    if (!text.ok()) return text.status();
    cut_off = is_cut_off(*text);
  }
  if (cut_off) {
    return Status(FINERMOE_ERROR_HEADER_TRUNCATED,
                  format_text(file_name, " ends inside its header, which should have ", size, " bytes and has ", room),
                  format_text(size, " bytes"), format_text(room, " bytes"));
  }
  uint64_t most = std::min(room, max_header_size);
  return Status(
      FINERMOE_ERROR_HEADER_TOO_LARGE,
      format_text(file_name, ": its header's length is given as ", size, " bytes, and can be ", most, " at most"),
      format_text("at most ", most), format_text(size));
}

}  // namespace finermoe

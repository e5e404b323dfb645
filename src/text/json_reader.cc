#include "text/json_reader.h"

#include <algorithm>

#include "base/json_sax.h"

namespace finermoe {
namespace {

constexpr size_t kMaxDepth = 64;

// Handles the events of nlohmann's parser. Returning false ends the parse; status() says why.
class Reader final : public JsonSax {
 public:
  // In tokenizer.json the vocabulary is part of the document; vocab.json contains nothing else.
  Reader(std::string_view text, std::string_view name, bool is_vocab, TokenizerFile& lists)
      : text_(text), name_(name), is_vocab_(is_vocab), lists_(lists) {}

  Status status() const { return status_; }
  Json take() { return std::move(root_); }

  bool null() override { return value(Json()); }
  bool boolean(bool given) override { return value(given); }
  bool number_integer(number_integer_t given) override {
    return in_vocab() ? bad_id(format_text(given)) : value(given);
  }
  bool number_unsigned(number_unsigned_t given) override {
    if (!in_vocab()) return value(given);
    if (given > static_cast<uint64_t>(kMaxTokenId)) return bad_id(format_text(given));
    lists_.tokens.add(key_);
    lists_.ids.push_back(static_cast<int32_t>(given));
    return true;
  }
  bool number_float(number_float_t given, const string_t& digits) override {
    return in_vocab() ? bad_id(digits) : value(given);
  }
  bool binary(binary_t&) override { return false; }  // not in JSON

  bool string(string_t& given) override {
    if (!in_merges()) return value(std::move(given));
    if (open_.back() != Kind::merge) {  // "left right", as older files write it
      size_t space = given.find(' ');
      if (space == std::string::npos || given.find(' ', space + 1) != std::string::npos) {
        return fail(FINERMOE_ERROR_TOKENIZER_MERGES, format_text("merge ", lists_.merges.size() / 2, " is \"", given,
                                                                 "\", expected two tokens and a space"));
      }
      lists_.merges.add(std::string_view(given).substr(0, space));
      lists_.merges.add(std::string_view(given).substr(space + 1));
      return true;
    }
    lists_.merges.add(given);
    ++merge_parts_;
    return true;
  }

  bool start_object(size_t) override { return begin(Json::object(), Kind::object); }
  bool start_array(size_t) override { return begin(Json::array(), Kind::array); }
  bool end_object() override { return end(); }
  bool end_array() override {
    if (open_.back() == Kind::merge && merge_parts_ != 2) {
      return fail(FINERMOE_ERROR_TOKENIZER_MERGES, format_text("a merge near number ", lists_.merges.size() / 2,
                                                               " has ", merge_parts_, " parts, expected 2"));
    }
    return end();
  }

  bool key(string_t& given) override {
    key_.swap(given);
    if (open_.back() == Kind::vocab) return true;  // duplicates are found when the vocabulary is built
    if (nodes_.back()->contains(key_)) {
      return fail(FINERMOE_ERROR_TOKENIZER_MALFORMED,
                  format_text(name_, ": the key \"", key_, "\" appears twice in an object"));
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status_ = json_error(text_, name_, FINERMOE_ERROR_TOKENIZER_MALFORMED, position);
    return false;
  }

 private:
  enum class Kind { object, array, vocab, merges, merge };

  bool in_vocab() const { return !open_.empty() && open_.back() == Kind::vocab; }
  bool in_merges() const { return !open_.empty() && (open_.back() == Kind::merges || open_.back() == Kind::merge); }

  bool fail(Code code, std::string message) {
    if (status_.ok()) status_ = Status(code, std::move(message));
    return false;
  }

  bool bad_id(std::string_view found) {
    return fail(FINERMOE_ERROR_TOKENIZER_MALFORMED,
                format_text(name_, ": the id of token \"", key_, "\" is ", found, ", expected 0 to ", kMaxTokenId));
  }

  Json* insert(Json given) {
    if (nodes_.empty()) {
      root_ = std::move(given);
      return &root_;
    }
    Json& parent = *nodes_.back();
    if (parent.is_array()) {
      return &parent.push_back(std::move(given));
    }
    return &(parent[key_] = std::move(given));
  }

  bool value(Json given) {
    if (in_vocab()) return bad_id("not a number");
    if (in_merges()) return fail(FINERMOE_ERROR_TOKENIZER_MERGES, "a merge that is not made of strings");
    insert(std::move(given));
    return true;
  }

  bool begin(Json empty, Kind kind) {
    if (open_.size() == kMaxDepth) {
      return fail(FINERMOE_ERROR_TOKENIZER_MALFORMED,
                  format_text(name_, " is nested deeper than ", kMaxDepth, " levels"));
    }
    if (in_merges() && open_.back() == Kind::merges && kind == Kind::array) {
      open_.push_back(Kind::merge);
      merge_parts_ = 0;
      return true;
    }
    if (in_vocab() || in_merges()) return value(std::move(empty));
    bool in_model = open_.size() == 2 && path_.back() == "model";
    bool is_vocab = open_.empty() && is_vocab_;
    if ((is_vocab || (in_model && key_ == "vocab")) && kind == Kind::object) kind = Kind::vocab;
    if (in_model && key_ == "merges" && kind == Kind::array) kind = Kind::merges;
    path_.push_back(key_);
    nodes_.push_back(insert(std::move(empty)));
    open_.push_back(kind);
    return true;
  }

  bool end() {
    if (open_.back() != Kind::merge) {
      nodes_.pop_back();
      path_.pop_back();
    }
    open_.pop_back();
    return true;
  }

  const std::string_view text_, name_;
  const bool is_vocab_;
  TokenizerFile& lists_;
  Status status_;
  Json root_;
  std::vector<Json*> nodes_;       // the open containers; a parent does not grow while a child is open
  std::vector<std::string> path_;  // the keys that lead to them
  std::vector<Kind> open_;
  std::string key_;
  size_t merge_parts_ = 0;
};

}  // namespace

Result<Json> read_tokenizer_document(std::string_view text, TokenizerFile& file) {
  Reader reader(text, "tokenizer.json", false, file);
  if (!parse_json_events(text.begin(), text.end(), &reader)) return reader.status();
  return reader.take();
}

Status read_vocabulary(std::string_view text, TokenizerFile& file) {
  Reader reader(text, "vocab.json", true, file);
  if (!parse_json_events(text.begin(), text.end(), &reader)) return reader.status();
  if (!reader.take().is_object() || file.tokens.size() == 0) {
    return Status(FINERMOE_ERROR_TOKENIZER_MALFORMED, "vocab.json is not an object of tokens and their ids");
  }
  return {};
}

}  // namespace finermoe

// Tokens by id, and ids by bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace finermoe {

class Vocabulary {
 public:
  explicit Vocabulary(size_t n_tokens);  // room for that many

  bool has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < spans_.size() && spans_[id].used; }
  void set(int32_t id, std::string_view bytes);  // the id must be free
  void index(int32_t id);                        // makes find() return it; its bytes must not be indexed yet
  int32_t find(std::string_view bytes) const;    // -1: none
  std::string_view bytes(int32_t id) const {
    return has(id) ? std::string_view(arena_).substr(spans_[id].begin, spans_[id].size) : std::string_view();
  }
  uint32_t length(int32_t id) const { return spans_[id].size; }  // of an id that has a token
  size_t size() const { return spans_.size(); }                  // largest id, plus one

 private:
  struct Span {
    uint64_t begin = 0;
    uint32_t size = 0;
    bool used = false;
  };
  size_t slot_of(std::string_view bytes) const;

  std::string arena_;
  std::vector<Span> spans_;  // by id
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
};

}  // namespace finermoe

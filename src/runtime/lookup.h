// Drafts of the next tokens, looked up in the text so far: what followed its last tokens where they stood before.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/allocation.h"
#include "runtime/guess.h"

namespace finermoe {

class Lookup {
 public:
  // For texts of up to `capacity` tokens; longer ones get no drafts. The index takes 8 to 12 bytes a token.
  static Result<Lookup> make(std::shared_ptr<MemoryAccount> account, size_t capacity, size_t n_draft);

  // At most `limit` tokens that may follow the text, as many as are likely enough to be chosen; valid until the next
  // call. `revision` names the text: one that did not grow from the last one is indexed anew, otherwise a call costs
  // no more for a long text than for a short one.
  std::span<const int32_t> draft(std::span<const int32_t> text, uint64_t revision, size_t limit);
  // The text has grown by tokens at its end, from one revision to the next.
  void grew(uint64_t from, uint64_t to) {
    if (revision_ == from) revision_ = to;
  }
  // A token was chosen: the first behind the text of the last draft(), then the next one, and so on. Guesses that were
  // not drafted count as well: so that a text without repeats, for which nothing is drafted, gets drafts again as soon
  // as it repeats itself, and costs no more than the lookup until then.
  void chose(int32_t token) { guess_.chose(token); }
  // Of guessed tokens whose predecessors were right, how many are right lately.
  double hit_rate() const { return guess_.rate(); }

 private:
  Lookup() = default;
  void index(std::span<const int32_t> text);
  void guess(std::span<const int32_t> text);
  size_t slot_of(int32_t before, int32_t last) const;
  size_t n_likely() const;

  size_t capacity_ = 0, n_draft_ = 0, n_slots_ = 0;  // a power of 2
  Buffer memory_;
  uint32_t* latest_ = nullptr;   // [n_slots] one more than the latest position at which such a pair ends; 0: none
  uint32_t* earlier_ = nullptr;  // [capacity] the same, of the one before the pair that ends here
  uint64_t revision_ = 0;
  size_t n_indexed_ = 0;    // pairs that end before this position
  Guess guess_{0.5, 0.25};  // what may come next
};

}  // namespace finermoe

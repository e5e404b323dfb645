// Mutations that keep an input's form, so that they come past the first check: of JSON, of an input's several texts, of
// a safetensors header with its length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed);

namespace fuzz {

// The same seed gives the same mutation.
class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  size_t below(size_t n) { return random_() % n; }
  // libFuzzer's own, of bytes; the result may be `room` bytes longer.
  std::string bytes(std::string_view text, size_t room = 32);
  // One value of a JSON text is changed, left out, doubled or renamed; what is not JSON is mutated as bytes.
  std::string json(std::string_view text);

 private:
  std::minstd_rand random_;
};

// Splits at NULs, as Texts of support.h does: n_texts of them at most.
std::vector<std::string> split(std::string_view input, size_t n_texts);
std::string join(const std::vector<std::string>& texts);

// Writes a mutated input into libFuzzer's buffer; one that is too long is cut off.
size_t give(const std::string& input, uint8_t* data, size_t max_size);

}  // namespace fuzz
